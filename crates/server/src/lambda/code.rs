//! Code as a caller brings it: a zip in base64, unpacked within the limits of every bundle.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use build::UnpackError;
use bytes::Bytes;
use model::Digest;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::{Answer, Kind, Refusal, functions::read};
use crate::{app::App, bundles::chain};

/// Where code may come from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    zip_file: Option<Cow<'a, str>>,
    #[serde(borrow)]
    s3_bucket: Option<Cow<'a, str>>,
    #[serde(borrow)]
    image_uri: Option<Cow<'a, str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct New<'a> {
    #[serde(borrow)]
    code: Option<Source<'a>>,
}

/// Code that was unpacked, and kept as it came.
pub(super) struct Taken {
    /// What was in it.
    pub bundle: Digest,
    /// SHA-256 of the zip.
    pub code: Digest,
    /// Bytes of the zip.
    pub size: u64,
}

/// A zip as it was sent.
pub(super) struct Zip {
    pub bytes: Bytes,
    pub digest: Digest,
}

/// Most bytes of a zip in a request.
const ZIP_MAX: usize = 50 << 20;

impl Source<'_> {
    /// The zip.
    pub(super) fn zip(&self) -> Answer<Zip> {
        if self.s3_bucket.is_some() {
            let message = "S3Bucket is not served here: there is no S3; send the code as ZipFile";
            return Err(Refusal::parameter(message));
        }
        if self.image_uri.is_some() {
            let message = "ImageUri is not served here: there is nothing that runs container images; send the code as ZipFile";
            return Err(Refusal::parameter(message));
        }
        let Some(text) = self.zip_file.as_deref() else {
            return Err(Refusal::parameter(
                "Please provide a source for function code.",
            ));
        };
        let zip = STANDARD.decode(text).map_err(|error| {
            let message = format!("ZipFile is no base64: {error}");
            Refusal::new(Kind::InvalidRequestContent, message)
        })?;
        if zip.len() > ZIP_MAX {
            let message = format!("Zipped size must be smaller than {ZIP_MAX} bytes");
            return Err(Refusal::new(Kind::RequestEntityTooLarge, message));
        }
        let digest = Digest::of(&zip);
        let bytes = zip.into();
        Ok(Zip { bytes, digest })
    }
}

/// The code in a request that makes a function.
pub(super) fn of_new(body: &[u8]) -> Answer<Zip> {
    let new: New<'_> = read(body)?;
    new.code.unwrap_or_default().zip()
}

/// Unpacks code, and keeps the zip.
pub(super) async fn take(app: &App, zip: Zip) -> Answer<Taken> {
    let Zip {
        bytes,
        digest: code,
    } = zip;
    let bundles = &app.deploys.bundles;
    let unpacked = bundles.take_zip(bytes.clone(), &app.limits).await;
    let bundle = unpacked.map_err(|error| bad_zip(&error))?;
    let size = bytes.len() as u64;
    app.deploys.layers.keep_zip(bytes, &code).await?;
    Ok(Taken { bundle, code, size })
}

/// Removes a zip, if nothing is made of it any more.
pub(super) async fn forget(app: &App, code: &Digest) -> Answer<()> {
    if !app.store.has_code(code).await? {
        app.deploys.layers.drop_zip(code).await;
    }
    Ok(())
}

/// Reads a body that may be large, where it keeps nobody waiting.
pub(super) async fn aside<T: Send + 'static>(
    body: Bytes,
    read: impl FnOnce(&[u8]) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let done = spawn_blocking(move || read(&body)).await;
    done.unwrap_or_else(|error| {
        let message = format!("reading the request broke off: {error}");
        Err(Refusal::new(Kind::Service, message))
    })
}

/// The refusal of a zip.
pub(super) fn bad_zip(error: &UnpackError) -> Refusal {
    match error {
        UnpackError::TooLarge { limit } => {
            let message = format!("Unzipped size must be smaller than {} bytes", limit.0);
            Refusal::parameter(message)
        }
        UnpackError::Write { .. } => Refusal::new(Kind::Service, chain(error)),
        UnpackError::NoZip(_)
        | UnpackError::Corrupt(_)
        | UnpackError::Kind { .. }
        | UnpackError::Manifest(_)
        | UnpackError::TooMany { .. } => Refusal::parameter(format!(
            "Could not unzip uploaded file. Please check your file, then try to upload again. ({})",
            chain(error)
        )),
    }
}
