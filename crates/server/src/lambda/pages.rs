//! Lists in pages: at most so many at a time, and a marker for the rest.

use axum::Json;
use serde_json::{Value, json};

use super::{Answer, Refusal, functions::Beside};

/// Items on a page of whoever says nothing, and at most: lists are short here, but answers have an end.
const PAGE: usize = 50;
const PAGE_MAX: usize = 10_000;

/// A page of a list that is sorted by the key of each item; the marker is the key of the last one shown.
pub(super) fn page(
    items: Vec<(String, Value)>,
    name: &str,
    beside: &Beside,
) -> Answer<Json<Value>> {
    let most = match beside.max_items.as_deref() {
        None => PAGE,
        Some(text) => match text.parse::<usize>() {
            Ok(most @ 1..=PAGE_MAX) => most,
            Ok(_) | Err(_) => {
                let rule = format!("Member must have a value from 1 to {PAGE_MAX}");
                return Err(Refusal::constraint(text, "maxItems", &rule));
            }
        },
    };
    let after = beside.marker.as_deref().unwrap_or_default();
    let mut left = items
        .into_iter()
        .filter(|(key, _)| key.as_str() > after)
        .peekable();
    let mut last = String::new();
    let mut shown = Vec::new();
    while shown.len() < most
        && let Some((key, value)) = left.next()
    {
        last = key;
        shown.push(value);
    }
    let mut answer = json!({name: shown});
    if left.peek().is_some() {
        answer["NextMarker"] = last.into();
    }
    Ok(Json(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let items = || {
            ["a", "b", "c"]
                .map(|key| (key.to_owned(), json!(key)))
                .to_vec()
        };
        let ask = |marker: Option<&str>, most: &str| {
            let beside = Beside {
                marker: marker.map(str::to_owned),
                max_items: Some(most.to_owned()),
                ..Beside::default()
            };
            page(items(), "Items", &beside).map(|Json(page)| page)
        };
        let first = ask(None, "2").unwrap();
        assert_eq!(first, json!({"Items": ["a", "b"], "NextMarker": "b"}));
        assert_eq!(ask(Some("b"), "2").unwrap(), json!({"Items": ["c"]}));
        assert_eq!(ask(None, "3").unwrap(), json!({"Items": ["a", "b", "c"]}));
        assert!(ask(None, "0").is_err() && ask(None, "x").is_err());
    }
}
