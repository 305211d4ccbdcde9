//! Aliases, which are those of everybody, in AWS's words: they lead to published numbers, or to `$LATEST`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use model::{AliasTarget, ErrorType, Name, VersionNumber, VersionRef};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Alias, LambdaAlias};

use super::{
    Answer, Caller, Kind, Named, Refusal,
    draft::revision,
    functions::{Beside, check_description, read, unqualified},
    pages,
    shown::{LATEST, Shown},
    updates::check_revision,
};
use crate::{api::to_its_end, app::App, rights::Right};

/// How an alias is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    name: Option<String>,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<Routing>,
    revision_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Routing {
    additional_version_weights: Option<BTreeMap<String, f64>>,
}

/// Where an alias is to lead: numbers, and the percent of the second. Number 0 is `$LATEST`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Numbers {
    first: u32,
    second: Option<(u32, u8)>,
}

/// `CreateAlias`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Path(function): Path<String>,
    caller: Caller,
) -> Answer<Response> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&function, None, &caller.region)?;
    unqualified(&named)?;
    let asked: Asked = read(&caller.body)?;
    let name = alias_name(asked.name.as_deref().unwrap_or_default())?;
    let (region, work) = (caller.region.clone(), app.clone());
    let made = async move { Ok(put(&work, &named, &region, name, asked, Existence::New).await) };
    let answer = to_its_end(&app, made).await??;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `UpdateAlias`.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path((function, alias)): Path<(String, String)>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&function, None, &caller.region)?;
    unqualified(&named)?;
    let asked: Asked = read(&caller.body)?;
    let name = alias_name(&alias)?;
    let (region, work) = (caller.region.clone(), app.clone());
    let changed =
        async move { Ok(put(&work, &named, &region, name, asked, Existence::Known).await) };
    Ok(Json(to_its_end(&app, changed).await??))
}

/// Whether an alias shall be there already.
#[derive(Clone, Copy, PartialEq)]
enum Existence {
    New,
    Known,
}

async fn put(
    app: &Arc<App>,
    named: &Named,
    region: &str,
    name: Name,
    asked: Asked,
    existence: Existence,
) -> Answer<Value> {
    check_description(asked.description.as_deref())?;
    let shown = Shown::load(app, region, &named.function).await?;
    let before = shown.alias(&name);
    let arn = shown.arn(Some(name.as_str()));
    match (existence, &before) {
        (Existence::New, Some(_)) => {
            let message = format!("Alias already exists: {arn}");
            return Err(Refusal::new(Kind::ResourceConflict, message));
        }
        (Existence::Known, None) => {
            return Err(Refusal::not_found(format!("Cannot find alias arn: {arn}")));
        }
        (Existence::New, None) | (Existence::Known, Some(_)) => {}
    }
    if let Some((alias, _)) = &before {
        check_revision(asked.revision_id.as_deref(), &alias.revision)?;
    }
    let numbers = shown.numbers(&asked, before.as_ref())?;
    let wanted = shown.wanted(numbers)?;
    let alias = Alias(name.clone());
    let pointed = app.deploys.activate(shown.id(), &alias, &wanted).await;
    pointed.map_err(|failure| match failure.error_type {
        ErrorType::BadRequest if failure.message.contains("the limit `aliases`") => {
            Refusal::new(Kind::AliasLimitExceeded, failure.message)
        }
        _ => failure.into(),
    })?;
    let description = before
        .map(|(alias, _)| alias.description)
        .unwrap_or_default();
    let kept = LambdaAlias {
        number: numbers.first,
        second: numbers.second.map(|(number, _)| number),
        description: asked.description.unwrap_or(description),
        revision: revision(app),
    };
    app.store.number_alias(shown.id(), &name, kept).await?;
    let shown = Shown::load(app, region, &named.function).await?;
    shown.alias_shape(&name)
}

impl Shown<'_> {
    /// An alias as it is numbered now, with the percent of its second version.
    fn alias(&self, name: &Name) -> Option<(LambdaAlias, Option<u8>)> {
        if *name == Alias::current().0 {
            return None;
        }
        let target = *self.function.current.aliases.get(name)?;
        let kept = self.function.aliases.get(name);
        let version = |number: u32| match number {
            0 => self
                .function
                .current
                .version
                .as_ref()
                .map(|version| version.number),
            number => Some(self.function.published.get(&number)?.version),
        };
        let percent = match target {
            AliasTarget::One(_) => None,
            AliasTarget::Two { percent, .. } => Some(percent),
        };
        let leads = |alias: &&LambdaAlias| {
            let second = alias.second.and_then(version);
            let is_second = target.parts().get(1).map(|part| part.version) == second;
            version(alias.number) == Some(target.first()) && (is_second || percent.is_none())
        };
        if let Some(kept) = kept.filter(leads) {
            return Some((kept.clone(), percent));
        }
        // It was pointed from elsewhere since.
        let number =
            |version: VersionNumber| self.numbered(version).map_or(0, |(number, _)| number);
        let second = target.parts().get(1).map(|part| number(part.version));
        let alias = LambdaAlias {
            number: number(target.first()),
            second,
            description: kept
                .map(|kept| kept.description.clone())
                .unwrap_or_default(),
            revision: super::shown::revision_of(&model::Digest::of(
                format!("{name} {target}").as_bytes(),
            )),
        };
        Some((alias, percent))
    }

    /// Where an alias is asked to lead; what is not said stays.
    fn numbers(
        &self,
        asked: &Asked,
        before: Option<&(LambdaAlias, Option<u8>)>,
    ) -> Answer<Numbers> {
        let first = match asked.function_version.as_deref() {
            Some(LATEST) => 0,
            Some(text) => self.published_number(text)?,
            None => match before {
                Some((alias, _)) => alias.number,
                None => {
                    let rule = "Member must not be null";
                    return Err(Refusal::constraint("null", "functionVersion", rule));
                }
            },
        };
        let kept = before.and_then(|(alias, percent)| Some((alias.second?, (*percent)?)));
        let second = match &asked.routing_config {
            None => kept,
            Some(routing) => self.second(routing)?,
        };
        if second.is_some() && first == 0 {
            let message = "$LATEST is not supported for an alias pointing to more than 1 version";
            return Err(Refusal::parameter(message));
        }
        if second.is_some_and(|(second, _)| second == first) {
            let message = format!(
                "Invalid function version {first}. Function version {first} is already included in routing configuration."
            );
            return Err(Refusal::parameter(message));
        }
        Ok(Numbers { first, second })
    }

    fn second(&self, routing: &Routing) -> Answer<Option<(u32, u8)>> {
        let weights = routing.additional_version_weights.iter().flatten();
        let weights: Vec<_> = weights.collect();
        let [(version, weight)] = weights[..] else {
            if weights.is_empty() {
                return Ok(None);
            }
            let message = "Number of items in AdditionalVersionWeights cannot be greater than 1";
            return Err(Refusal::parameter(message));
        };
        if version == LATEST {
            let message = "$LATEST is not supported for an alias pointing to more than 1 version";
            return Err(Refusal::parameter(message));
        }
        let number = self.published_number(version)?;
        match percent(*weight) {
            Some(0) => Ok(None),
            Some(percent) => Ok(Some((number, percent))),
            None => Err(Refusal::parameter(format!(
                "the weight {weight} of version {version} is no whole percent below 1; use one like 0.1 or 0.25"
            ))),
        }
    }

    fn published_number(&self, text: &str) -> Answer<u32> {
        let found = text.parse().ok();
        let found = found.filter(|number| self.function.published.contains_key(number));
        found.ok_or_else(|| Refusal::no_function(&self.arn(Some(text))))
    }

    /// The versions behind numbers, with their weights.
    fn wanted(&self, numbers: Numbers) -> Answer<Vec<(VersionRef, Option<u32>)>> {
        let version = |number: u32| -> Answer<VersionNumber> {
            match self.function.published.get(&number) {
                Some(state) => Ok(state.version),
                None => Ok(self.version()?.number),
            }
        };
        let first = version(numbers.first)?;
        let Some((number, percent)) = numbers.second else {
            return Ok(vec![(VersionRef::Number(first), None)]);
        };
        let second = version(number)?;
        if first == second {
            // Two numbers of one version: what differs is not what runs.
            return Ok(vec![(VersionRef::Number(first), None)]);
        }
        let percent = u32::from(percent);
        Ok(vec![
            (VersionRef::Number(first), Some(100 - percent)),
            (VersionRef::Number(second), Some(percent)),
        ])
    }

    /// An alias as AWS shows it.
    fn alias_shape(&self, name: &Name) -> Answer<Value> {
        let arn = self.arn(Some(name.as_str()));
        let missing = || Refusal::not_found(format!("Cannot find alias arn: {arn}"));
        let (alias, percent) = self.alias(name).ok_or_else(missing)?;
        let target = self.function.current.aliases.get(name);
        let leads = target.map(AliasTarget::first).ok_or_else(missing)?;
        let number = match alias.number {
            0 if self
                .function
                .aliases
                .get(name)
                .is_some_and(|kept| kept.number == 0) =>
            {
                LATEST.to_owned()
            }
            // Pointed from elsewhere at what was never published; AWS has no word for it.
            0 => leads.to_string(),
            number => number.to_string(),
        };
        let mut shape = json!({
            "AliasArn": arn,
            "Name": name,
            "FunctionVersion": number,
            "Description": alias.description,
            "RevisionId": alias.revision,
        });
        if let (Some(second), Some(percent)) = (alias.second, percent) {
            let weights = json!({second.to_string(): f64::from(percent) / 100.0});
            shape["RoutingConfig"] = json!({"AdditionalVersionWeights": weights});
        }
        Ok(shape)
    }
}

/// A weight of AWS as a percent, if it is a whole one below a hundred.
fn percent(weight: f64) -> Option<u8> {
    let percent = weight * 100.0;
    let whole = percent.round();
    let is_whole = (percent - whole).abs() < 1e-6;
    (is_whole && (0.0..100.0).contains(&whole)).then_some(whole as u8)
}

/// The name of an alias, which is no number.
fn alias_name(text: &str) -> Answer<Name> {
    let name = text.parse().ok();
    let name: Option<Name> = name.filter(|_| !is_number(text));
    match name {
        Some(name) if name == Alias::current().0 => {
            let message = "an alias cannot be called 'current' here: that is what $LATEST means; choose another name";
            Err(Refusal::parameter(message))
        }
        Some(name) => Ok(name),
        None => {
            let shown: String = text.chars().take(128).collect();
            let rule = "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+), and have at most 64 characters here";
            Err(Refusal::constraint(&shown, "name", rule))
        }
    }
}

/// Whether a name would be read as a version.
fn is_number(text: &str) -> bool {
    matches!(text.parse(), Ok(VersionRef::Number(_))) || text.bytes().all(|b| b.is_ascii_digit())
}

/// `GetAlias`.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path((function, alias)): Path<(String, String)>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = Named::parse(&function, None, &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    Ok(Json(shown.alias_shape(&alias_name(&alias)?)?))
}

/// `ListAliases`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(function): Path<String>,
    Query(beside): Query<Beside>,
    caller: Caller,
) -> Answer<Json<Value>> {
    caller.may(Right::Look)?;
    let named = Named::parse(&function, None, &caller.region)?;
    let shown = Shown::load(&app, &caller.region, &named.function).await?;
    let mut listed = Vec::new();
    for name in shown.function.current.aliases.keys() {
        if *name == Alias::current().0 {
            continue;
        }
        let shape = shown.alias_shape(name)?;
        let wanted = beside.function_version.as_deref();
        if wanted.is_none_or(|wanted| shape["FunctionVersion"] == wanted) {
            listed.push((name.to_string(), shape));
        }
    }
    pages::page(listed, "Aliases", &beside)
}

/// `DeleteAlias`, which is content where there is none.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path((function, alias)): Path<(String, String)>,
    caller: Caller,
) -> Answer<StatusCode> {
    caller.may(Right::Deploy)?;
    let named = Named::parse(&function, None, &caller.region)?;
    let name = alias_name(&alias)?;
    Shown::load(&app, &caller.region, &named.function).await?;
    let work = app.clone();
    let gone = async move {
        let gone = work.deploys.drop_alias(&named.function, &Alias(name)).await;
        match gone {
            Err(failure) if failure.error_type == ErrorType::NotFound => Ok(()),
            gone => gone,
        }
    };
    to_its_end(&app, gone).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_whole_percents() {
        for (weight, expected) in [
            (0.1, Some(10)),
            (0.07, Some(7)),
            (0.29, Some(29)),
            (0.0, Some(0)),
            (0.99, Some(99)),
            (0.005, None),
            (1.0, None),
            (-0.1, None),
        ] {
            assert_eq!(percent(weight), expected, "{weight}");
        }
    }

    #[test]
    fn a_name_is_no_number_and_not_current() {
        for bad in ["1", "007", "v3", "", "a b", "current", &"x".repeat(65)] {
            assert!(alias_name(bad).is_err(), "{bad}");
        }
        for good in ["PROD", "beef", "v3x", "blue-1"] {
            assert_eq!(alias_name(good).unwrap().as_str(), good);
        }
    }
}
