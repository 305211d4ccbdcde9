//! Layers: numbered zips that versions find under `/opt`.

use model::{Digest, Timestamp};
use sqlx::{Row, SqliteConnection, query, query_scalar, sqlite::SqliteRow};

use crate::{Store, StoreError, fault::Trip, functions::parsed};

/// What a layer's new version is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// The layer.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Free text, or the name of a licence.
    pub license: String,
    /// Runtimes that it is said to fit.
    pub runtimes: Vec<String>,
    /// Architectures that it is said to fit.
    pub architectures: Vec<String>,
    /// SHA-256 of its zip.
    pub code: Digest,
    /// Bytes of its zip.
    pub code_size: u64,
    /// Bytes of its files.
    pub unpacked_size: u64,
}

/// One version of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerVersion {
    /// Its number, from 1.
    pub number: u32,
    /// What it is made of.
    pub layer: NewLayer,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// Adds a version of a layer, under a number that was never given.
    pub async fn add_layer(&self, layer: NewLayer) -> Result<LayerVersion, StoreError> {
        let (attempt, now) = (format!("add the layer {} to", layer.name), self.now());
        self.meta()
            .write(attempt, move |conn| Box::pin(add(conn, layer, now)))
            .await
    }

    /// Versions of a layer, or of all for `None`, by name and newest first. Deleted ones are left out.
    pub async fn layers(&self, name: Option<&str>) -> Result<Vec<LayerVersion>, StoreError> {
        let name = name.map(str::to_owned);
        self.meta()
            .read("list the layers of", move |conn| Box::pin(all(conn, name)))
            .await
    }

    /// One version of a layer, if it is there.
    pub async fn layer(&self, name: &str, number: u32) -> Result<Option<LayerVersion>, StoreError> {
        let versions = self.layers(Some(name)).await?;
        Ok(versions
            .into_iter()
            .find(|version| version.number == number))
    }

    /// Deletes a version of a layer. Versions of functions that have it keep it.
    pub async fn delete_layer(&self, name: &str, number: u32) -> Result<(), StoreError> {
        let (attempt, name) = (format!("delete the layer {name} from"), name.to_owned());
        self.meta()
            .write(attempt, move |conn| {
                Box::pin(async move {
                    let sql = "UPDATE lambda_layers SET deleted = 1 WHERE name = ? AND number = ?";
                    query(sql).bind(name).bind(number).execute(conn).await?;
                    Ok(())
                })
            })
            .await
    }
}

async fn add(
    conn: &mut SqliteConnection,
    layer: NewLayer,
    now: Timestamp,
) -> Result<LayerVersion, Trip> {
    let list = |words: &[String]| {
        serde_json::to_string(words)
            .map_err(|error| Trip::unreadable(error, "words that can be written as JSON"))
    };
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let sql = "INSERT INTO lambda_layers (name, number, description, license, runtimes, \
         architectures, code, code_size, unpacked_size, created_at) VALUES (?1, \
         (SELECT coalesce(max(number), 0) + 1 FROM lambda_layers WHERE name = ?1), \
         ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING number";
    let number: u32 = query_scalar(sql)
        .bind(&layer.name)
        .bind(&layer.description)
        .bind(&layer.license)
        .bind(list(&layer.runtimes)?)
        .bind(list(&layer.architectures)?)
        .bind(layer.code.hex())
        .bind(size(layer.code_size))
        .bind(size(layer.unpacked_size))
        .bind(now.0)
        .fetch_one(conn)
        .await?;
    Ok(LayerVersion {
        number,
        layer,
        created_at: now,
    })
}

async fn all(conn: &mut SqliteConnection, name: Option<String>) -> Result<Vec<LayerVersion>, Trip> {
    let sql = "SELECT name, number, description, license, runtimes, architectures, code, code_size, \
         unpacked_size, created_at FROM lambda_layers \
         WHERE deleted = 0 AND name = coalesce(?, name) ORDER BY name, number DESC";
    let rows = query(sql).bind(name).fetch_all(conn).await?;
    rows.iter().map(layer_of).collect()
}

fn layer_of(row: &SqliteRow) -> Result<LayerVersion, Trip> {
    let list = |at: usize| -> Result<Vec<String>, Trip> {
        let text: &str = row.try_get(at)?;
        serde_json::from_str(text).map_err(|_| Trip::unreadable(text, "a list of words"))
    };
    let size =
        |at: usize| -> Result<u64, Trip> { Ok(row.try_get::<i64, _>(at)?.try_into().unwrap_or(0)) };
    Ok(LayerVersion {
        number: row.try_get(1)?,
        layer: NewLayer {
            name: row.try_get(0)?,
            description: row.try_get(2)?,
            license: row.try_get(3)?,
            runtimes: list(4)?,
            architectures: list(5)?,
            code: parsed(row.try_get(6)?, "a digest")?,
            code_size: size(7)?,
            unpacked_size: size(8)?,
        },
        created_at: Timestamp(row.try_get(9)?),
    })
}
