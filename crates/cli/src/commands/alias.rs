//! `bungee alias`: names that point at versions. `current` is the one that calls follow; it too may be split by weight.

use clap::Args;
use laptop::api::WeightedVersion;
use model::{AliasPart, Name, VersionRef};

use crate::{
    arguments::FunctionName,
    commands::Door,
    connection,
    exit::{Complaint, Exit, Stop},
    table,
};

/// Arguments of `alias`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  bungee alias hello live v3
  bungee alias hello current v3=90 v4=10
  bungee alias hello
  bungee invoke hello --alias live

Which of two versions an invocation meets follows from its id. Over HTTP the header `x-bungee-alias` names an alias;
it needs a token wherever the server has one. `bungee rollback` takes `current` back to where it pointed before.")]
pub struct Alias {
    /// The function, as NAME or PROJECT/NAME
    #[arg(value_name = "NAME", add = crate::commands::completions::of_functions())]
    function: FunctionName,
    /// The alias [default: show them all]
    #[arg(value_name = "ALIAS")]
    alias: Option<Name>,
    /// One version, or two with weights that add up to 100, like `v3=90 v4=10`
    #[arg(value_name = "VERSION[=WEIGHT]", value_parser = version)]
    versions: Vec<WeightedVersion>,
    /// Delete the alias
    #[arg(long, requires = "alias", conflicts_with = "versions")]
    delete: bool,
}

/// A version in any of its three ways, and a weight.
fn version(text: &str) -> Result<WeightedVersion, String> {
    let (version, weight) = match text.split_once('=') {
        Some((version, weight)) => (version, Some(weight)),
        None => (text, None),
    };
    version
        .parse::<VersionRef>()
        .map_err(|error| error.to_string())?;
    let number = |weight: &str| {
        let digits = weight.strip_suffix('%').unwrap_or(weight);
        digits
            .parse()
            .map_err(|_| format!("`{weight}` is no weight; use a whole number from 1 to 100"))
    };
    Ok(WeightedVersion {
        version: version.to_owned(),
        weight: weight.map(number).transpose()?,
    })
}

/// `v3`, or `v3 90%, v4 10%`.
pub fn words(parts: &[AliasPart]) -> String {
    match parts {
        [only] => only.version.to_string(),
        _ => {
            let each = parts.iter();
            let each: Vec<String> = each
                .map(|part| format!("{} {}%", part.version, part.weight))
                .collect();
            each.join(", ")
        }
    }
}

impl Alias {
    /// Shows, points or deletes.
    pub async fn run(self, door: &Door) -> Result<Exit, Stop> {
        let client = connection::connect(&door.global)?;
        let function = connection::function(&client, &door.global, &self.function).await?;
        let Some(alias) = self.alias else {
            let all = client.aliases(&function).await?;
            if door.printer.json {
                door.printer.json(&all.aliases)?;
                return Ok(Exit::Done);
            }
            if all.aliases.is_empty() {
                door.printer.note(&format!("{function} has no aliases yet"));
                return Ok(Exit::Done);
            }
            let rows = all.aliases.iter();
            let rows = rows.map(|(name, parts)| vec![name.to_string(), words(parts)]);
            door.printer
                .line(&table::render(&["ALIAS", "VERSION"], rows))?;
            return Ok(Exit::Done);
        };
        if self.delete {
            client.delete_alias(&function, &alias).await?;
            door.printer
                .note(&format!("{function} has no alias `{alias}` any more"));
            return Ok(Exit::Done);
        }
        if self.versions.is_empty() {
            let complaint = Complaint::usage(format!("where is `{alias}` to point?"));
            return Err(complaint
                .hint("name one version, or two like `v1=90 v2=10`")
                .into());
        }
        let moved = client
            .point_alias(&function, &alias, &self.versions)
            .await?;
        if door.printer.json {
            door.printer.json(&moved)?;
            return Ok(Exit::Done);
        }
        let verb = if moved.changed {
            "points"
        } else {
            "points already"
        };
        door.printer.note(&format!(
            "`{alias}` of {function} {verb} at {}",
            words(&moved.versions)
        ));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_carry_its_weight() {
        let weight = |text| version(text).unwrap().weight;
        assert_eq!(weight("v3"), None);
        assert_eq!(weight("v3=90"), Some(90));
        assert_eq!(weight("sha256:abcd=10%"), Some(10));
        for bad in ["x", "v3=", "v3=-1", "v3=half", "=5"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }
}
