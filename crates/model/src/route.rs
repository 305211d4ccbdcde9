//! Declared routes: `GET /hello/:name`, `POST /files/*`, and the table that matches them.

use std::{collections::HashMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An HTTP method, as [`http`] knows it.
pub type Method = http::Method;

/// Path prefixes that belong to the server; a declared route may not lie under them.
const SERVER_PATHS: [&str; 20] = [
    "functions",
    "v1",
    "api",
    "_functions",
    "2015-03-31",
    "2021-11-15",
    "2018-10-31",
    "2017-10-31",
    "2016-08-19",
    "2017-03-31",
    "2019-09-25",
    "2019-09-30",
    "2020-06-30",
    "2021-10-31",
    "dispatch",
    "health",
    "metrics",
    "dashboard",
    "openapi.json",
    "channel",
];

/// Whether a path belongs to the server, so that no route can ever match it.
pub fn is_server_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    first.is_some_and(|first| SERVER_PATHS.contains(&first))
}

/// Longest route, in bytes.
const ROUTE_MAX: usize = 1024;

/// One declared route: an optional method and a path whose parts are text, `:name`, or a last `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The method's name; `None` for any.
    method: Option<String>,
    /// The path as it was written.
    path: String,
}

/// Why a text is no route, or why it cannot be declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not the shape of a route.
    #[error("`{route}` is no route: {why}; write it like `GET /hello/:name`")]
    Shape {
        /// What was written.
        route: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Lies under a path of the server.
    #[error("the route `{route}` overlaps the server's own `/{prefix}`")]
    Reserved {
        /// What was written.
        route: String,
        /// The server's first path part.
        prefix: &'static str,
    },
    /// Another route matches the same requests.
    #[error("the route `{route}` matches the same requests as `{other}`")]
    Taken {
        /// The new route.
        route: Route,
        /// The one that was there.
        other: Route,
    },
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Route, RouteError> {
        let wrong = |why| RouteError::Shape {
            route: text.chars().take(80).collect(),
            why,
        };
        if text.len() > ROUTE_MAX {
            return Err(wrong("it is longer than 1024 characters"));
        }
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => (Some(method), path.trim_start()),
            None => (None, text),
        };
        let method = match method {
            None | Some("ANY" | "*") => None,
            Some(word) if word.bytes().all(|b| b.is_ascii_uppercase()) && !word.is_empty() => {
                Some(word.to_owned())
            }
            Some(_) => return Err(wrong("the method is not written in capitals")),
        };
        let Some(rest) = path.strip_prefix('/') else {
            return Err(wrong("the path does not start with `/`"));
        };
        if path.contains(|c: char| c.is_whitespace() || c.is_control() || "{}?#".contains(c)) {
            return Err(wrong("the path holds a character that cannot stand there"));
        }
        let parts: Vec<&str> = rest.split('/').collect();
        for (at, part) in parts.iter().enumerate() {
            if *part == "*" && at + 1 != parts.len() {
                return Err(wrong("`*` stands only at the end"));
            }
            if *part == ":" {
                return Err(wrong("a `:` without a name"));
            }
        }
        if let Some(prefix) = SERVER_PATHS.iter().find(|prefix| **prefix == parts[0]) {
            return Err(RouteError::Reserved {
                route: text.into(),
                prefix,
            });
        }
        Ok(Route {
            method,
            path: path.into(),
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(f, "{method} {}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

impl Serialize for Route {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Route, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Route {
    /// The path without its method, `:name` parts as written.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The method; `None` for any.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The path's parts after the leading `/`.
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.path[1..].split('/')
    }
}

/// The parameters of a match, by name, percent-decoded. The rest under `*` is named `*`.
pub type Params = Vec<(String, String)>;

/// What a match gives: the target, and the parameters found in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<T> {
    /// What the route was declared for.
    pub target: T,
    /// The path's parameters.
    pub params: Params,
}

/// All declared routes, as a tree by path part. Text beats `:name` beats `*`, part by part.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    root: Node<T>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    text: HashMap<String, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    /// Routes that end here.
    here: Vec<(Route, T)>,
    /// Routes that end here with `*`.
    rest: Vec<(Route, T)>,
}

impl<T> Default for Node<T> {
    fn default() -> Node<T> {
        Node {
            text: HashMap::new(),
            parameter: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> RouteTable<T> {
        RouteTable {
            root: Node::default(),
        }
    }
}

impl<T: Clone> RouteTable<T> {
    /// Adds a route, unless another one would match the same requests.
    pub fn insert(&mut self, route: Route, target: T) -> Result<(), RouteError> {
        let mut node = &mut self.root;
        let mut is_rest = false;
        for part in route.parts() {
            match part {
                "*" => is_rest = true,
                _ if part.starts_with(':') => node = node.parameter.get_or_insert_default(),
                _ => node = node.text.entry(part.to_owned()).or_default(),
            }
        }
        let shared = if is_rest {
            &mut node.rest
        } else {
            &mut node.here
        };
        if let Some((other, _)) = shared
            .iter()
            .find(|(other, _)| other.method == route.method)
        {
            return Err(RouteError::Taken {
                route,
                other: other.clone(),
            });
        }
        shared.push((route, target));
        Ok(())
    }

    /// The target for a request, if a route matches its method and path.
    pub fn find(&self, method: &Method, path: &str) -> Option<Target<T>> {
        let path = path.strip_prefix('/')?;
        let mut values = Vec::new();
        let (route, target) = find_below(&self.root, method.as_str(), Some(path), &mut values)?;
        let names = route.parts().filter_map(|part| {
            if part == "*" {
                Some(part)
            } else {
                part.strip_prefix(':')
            }
        });
        let decode = |value: &str| {
            percent_encoding::percent_decode_str(value)
                .decode_utf8_lossy()
                .into_owned()
        };
        let params = names
            .zip(values)
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        Some(Target {
            target: target.clone(),
            params,
        })
    }
}

/// Walks down with what is left of the path; `values` holds the parameters of the way that led here.
fn find_below<'a, 'p, T>(
    node: &'a Node<T>,
    method: &str,
    left: Option<&'p str>,
    values: &mut Vec<&'p str>,
) -> Option<&'a (Route, T)> {
    let Some(left) = left else {
        return by_method(&node.here, method);
    };
    let (part, next) = match left.split_once('/') {
        Some((part, next)) => (part, Some(next)),
        None => (left, None),
    };
    if let Some(child) = node.text.get(part)
        && let Some(found) = find_below(child, method, next, values)
    {
        return Some(found);
    }
    if let Some(child) = &node.parameter
        && !part.is_empty()
    {
        values.push(part);
        if let Some(found) = find_below(child, method, next, values) {
            return Some(found);
        }
        values.pop();
    }
    let found = by_method(&node.rest, method)?;
    values.push(left);
    Some(found)
}

/// The route for exactly this method, else the one for any.
fn by_method<'a, T>(routes: &'a [(Route, T)], method: &str) -> Option<&'a (Route, T)> {
    let exact = routes
        .iter()
        .find(|(route, _)| route.method() == Some(method));
    exact.or_else(|| routes.iter().find(|(route, _)| route.method().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[&str]) -> RouteTable<usize> {
        let mut table = RouteTable::default();
        for (at, route) in routes.iter().enumerate() {
            table.insert(route.parse().unwrap(), at).unwrap();
        }
        table
    }

    #[test]
    fn text_beats_a_parameter_beats_the_rest() {
        let table = table(&[
            "GET /hello/:name",
            "POST /hello/:who",
            "/hello/me",
            "/hello/*",
        ]);
        let find = |method: Method, path| table.find(&method, path).map(|found| found.target);
        assert_eq!(find(Method::GET, "/hello/Ann"), Some(0));
        assert_eq!(find(Method::POST, "/hello/Ann"), Some(1));
        assert_eq!(find(Method::PUT, "/hello/Ann"), Some(3));
        assert_eq!(find(Method::PUT, "/hello/me"), Some(2));
        assert_eq!(find(Method::GET, "/hello/a/b"), Some(3));
        assert_eq!(find(Method::GET, "/elsewhere"), None);
        let params = table.find(&Method::POST, "/hello/A%20n").unwrap().params;
        assert_eq!(params, [("who".to_owned(), "A n".to_owned())]);
    }

    #[test]
    fn two_routes_for_the_same_requests_are_refused() {
        let mut table = table(&["GET /hello/:name"]);
        let again = table.insert("GET /hello/:other".parse().unwrap(), 9);
        assert!(matches!(again, Err(RouteError::Taken { .. })), "{again:?}");
    }

    #[test]
    fn routes_of_the_server_are_refused() {
        for bad in [
            "GET /functions/x",
            "/v1/x",
            "/health",
            "get /x",
            "GET x",
            "/a/*/b",
            "/a{b}",
            "/:",
        ] {
            assert!(bad.parse::<Route>().is_err(), "{bad}");
        }
        assert_eq!(
            "GET /a/:b".parse::<Route>().unwrap().to_string(),
            "GET /a/:b"
        );
    }
}
