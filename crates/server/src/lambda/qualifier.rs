//! Which version of a function a qualifier means, and by which name AWS knows the one that ran.

use model::{ErrorType, Failure};

use super::Named;
use crate::{
    invoke::Target,
    serving::{Deployed, Serving},
};

/// The newest state, which is what `current` leads to here.
const LATEST: &str = "$LATEST";

/// What a qualifier leads to.
///
/// # Errors
/// It leads nowhere.
pub(crate) fn target(serving: &Serving, qualifier: Option<&str>) -> Result<Target, Failure> {
    let Some(qualifier) = qualifier else {
        return Ok(Target::Alias(None));
    };
    if qualifier == LATEST {
        return Ok(Target::Alias(Some("current".into())));
    }
    if serving.aliases.contains_key(qualifier) {
        return Ok(Target::Alias(Some(qualifier.into())));
    }
    let number = qualifier.parse().ok();
    match number.and_then(|number: u32| serving.published.get(&number)) {
        Some(published) => Ok(Target::Version(published.clone())),
        None => {
            let function = &serving.function;
            let message = format!("`{function}` has neither alias nor version `{qualifier}`");
            Err(Failure::new(ErrorType::NotFound, message))
        }
    }
}

/// The version that ran, as the caller is told of it: by its number, if he asked for one and it has one.
pub(crate) fn executed(named: &Named, serving: &Serving, ran: &Deployed) -> String {
    let qualifier = named.qualifier.as_deref();
    let Some(qualifier) = qualifier.filter(|qualifier| *qualifier != LATEST) else {
        return LATEST.to_owned();
    };
    if qualifier.bytes().all(|byte| byte.is_ascii_digit()) {
        return qualifier.to_owned();
    }
    let mut published = serving.published.iter().rev();
    let same = |published: &Deployed| published.version.number == ran.version.number;
    match published.find(|(_, deployed)| same(deployed)) {
        Some((number, _)) => number.to_string(),
        None => LATEST.to_owned(),
    }
}
