//! The API's description as OpenAPI has it, and whether an answer is what it says.
//! Knows as much of JSON Schema as `spec/openapi.json` uses, and fails on a word that it does not know.

use std::{cell::RefCell, collections::BTreeSet, fs, path::Path};

use regex::Regex;
use serde_json::{Map, Value};

use crate::knock::Answer;

/// What the description says, and which of its operations were seen to work.
pub struct Description {
    pub document: Value,
    seen: RefCell<BTreeSet<String>>,
}

impl Description {
    /// The file of the repository.
    pub fn read() -> Description {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/openapi.json");
        let text = fs::read_to_string(path).expect("the description is there");
        Description {
            document: serde_json::from_str(&text).expect("the description is JSON"),
            seen: RefCell::default(),
        }
    }

    /// Every operation, as `GET /path/{parameter}`.
    pub fn operations(&self) -> BTreeSet<String> {
        let paths = object(&self.document["paths"]);
        let all = paths.iter().flat_map(|(path, item)| {
            let methods = object(item).keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        all.collect()
    }

    /// Operations that no answer was checked for.
    pub fn unseen(&self) -> BTreeSet<String> {
        self.operations()
            .difference(&self.seen.borrow())
            .cloned()
            .collect()
    }

    /// Asserts that this is an answer of the operation.
    #[track_caller]
    pub fn check(&self, operation: &str, answer: &Answer) {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let described = &self.document["paths"][path][method.to_lowercase()];
        let status = answer.status.to_string();
        let responses = object(&described["responses"]);
        let response = responses.get(&status).or(responses.get("default"));
        let response = self.follow(response.unwrap_or(&Value::Null));
        assert!(response.is_object(), "{operation} has no {status}");
        if let Some(contents) = response["content"].as_object() {
            let kind = answer.header("content-type").unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default();
            let content = &contents[kind];
            let bodies: Vec<Value> = match kind {
                "text/plain" => vec![answer.text().into()],
                "application/x-ndjson" => {
                    let text = answer.text();
                    let lines = text.lines();
                    lines
                        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
                        .collect()
                }
                _ => vec![answer.json()],
            };
            assert!(!bodies.is_empty(), "{operation} showed nothing to check");
            for body in bodies {
                self.fits(&body, &content["schema"], operation);
            }
        } else {
            assert!(answer.body.is_empty(), "{operation} has a body");
        }
        if responses.contains_key(&status) {
            self.seen.borrow_mut().insert(operation.to_owned());
        }
    }

    /// What a `$ref` means.
    fn follow<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node["$ref"].as_str() {
            Some(to) => self
                .document
                .pointer(to.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("{to} leads nowhere")),
            None => node,
        }
    }

    /// A schema, with what its `allOf` says as its own.
    fn merged(&self, schema: &Value) -> Map<String, Value> {
        let mut whole = object(self.follow(schema)).clone();
        for part in list(&whole.remove("allOf").unwrap_or_default()) {
            for (word, rule) in self.merged(part) {
                match (whole.get_mut(&word), rule) {
                    (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                    (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
                    (_, rule) => drop(whole.insert(word, rule)),
                }
            }
        }
        whole
    }

    /// Asserts that a value is what the schema says, and holds nothing that it does not name.
    #[track_caller]
    fn fits(&self, value: &Value, schema: &Value, at: &str) {
        if let Err(why) = self.try_fit(value, schema, at) {
            panic!("{why}");
        }
    }

    fn try_fit(&self, value: &Value, schema: &Value, at: &str) -> Result<(), String> {
        let whole = self.merged(schema);
        let schema = &whole;
        let refuse = |what: &str| Err(format!("{at}: {value} {what}"));
        for (word, rule) in schema {
            let fits = match word.as_str() {
                "description"
                | "required"
                | "additionalProperties"
                | "format"
                | "prefixItems"
                | "uniqueItems" => true,
                "minimum" => value
                    .as_f64()
                    .is_none_or(|value| Some(value) >= rule.as_f64()),
                "propertyNames" => {
                    for name in object(value).keys() {
                        self.try_fit(
                            &name.as_str().into(),
                            rule,
                            &format!("{at}, the name {name}"),
                        )?;
                    }
                    true
                }
                "type" => is_of_type(value, rule),
                "const" => value == rule,
                "enum" => list(rule).contains(value),
                "pattern" => {
                    let pattern = Regex::new(rule.as_str().unwrap_or_default());
                    let pattern = pattern.expect("a valid pattern");
                    value.as_str().is_some_and(|text| pattern.is_match(text))
                }
                "oneOf" => {
                    let one = |schema: &&Value| self.try_fit(value, schema, at).is_ok();
                    list(rule).iter().filter(one).count() == 1
                }
                // Beside `prefixItems` it only says that nothing follows.
                "items" if rule.is_boolean() => true,
                "items" => {
                    for (index, item) in list(value).iter().enumerate() {
                        self.try_fit(item, rule, &format!("{at}[{index}]"))?;
                    }
                    true
                }
                "properties" => true,
                unknown => return Err(format!("{at}: the test does not know `{unknown}`")),
            };
            if !fits {
                return refuse(&format!("is not of {word} {rule}"));
            }
        }
        self.members(value, schema, at)
    }

    fn members(&self, value: &Value, schema: &Map<String, Value>, at: &str) -> Result<(), String> {
        let Some(members) = value.as_object() else {
            return Ok(());
        };
        for name in schema.get("required").map(list).unwrap_or_default() {
            let name = name.as_str().unwrap_or_default();
            if !members.contains_key(name) {
                return Err(format!("{at}: {value} lacks {name}"));
            }
        }
        let properties = schema.get("properties").map(object);
        for (name, member) in members {
            let known = properties.and_then(|known| known.get(name));
            let others = schema
                .get("additionalProperties")
                .filter(|schema| schema.is_object());
            match known.or(others) {
                Some(schema) => self.try_fit(member, schema, &format!("{at}.{name}"))?,
                None if properties.is_some() => {
                    return Err(format!("{at}: {name} is not described"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("{value} is no object"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_of_type(value: &Value, rule: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        _ => false,
    };
    match rule.as_array() {
        Some(any) => any.iter().any(is),
        None => is(rule),
    }
}
