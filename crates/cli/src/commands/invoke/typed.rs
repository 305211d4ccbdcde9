//! What was typed for an invocation, read at the door: data, a request line, headers.

use std::{
    io::{self, Read as _},
    path::Path,
};

use model::{FunctionId, Name};
use serde::de::IgnoredAny;

use crate::exit::Complaint;

/// `METHOD PATH` as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// Its method.
    pub method: model::Method,
    /// Path and query.
    pub path: String,
}

/// The function's own path in front, unless the whole path was typed.
pub fn full_path(function: &FunctionId, path: &str) -> String {
    let FunctionId { project, name } = function;
    if path.starts_with("/functions/") {
        path.to_owned()
    } else if *project == Name::default_project() {
        format!("/functions/{name}{path}")
    } else {
        format!("/functions/{project}/{name}{path}")
    }
}

/// The bytes that `--data` means.
pub fn read_data(typed: &str) -> Result<Vec<u8>, Complaint> {
    if typed == "-" {
        let mut data = Vec::new();
        io::stdin().lock().read_to_end(&mut data).map_err(|error| {
            Complaint::usage(format!("cannot read `--data` from stdin: {error}"))
        })?;
        return Ok(data);
    }
    match typed.strip_prefix('@') {
        Some(file) => std::fs::read(Path::new(file)).map_err(|error| {
            Complaint::usage(format!("cannot read `--data` from `{file}`: {error}"))
        }),
        None => Ok(typed.as_bytes().to_vec()),
    }
}

/// Refuses what is no JSON, with the place where it stops being JSON.
pub fn check_json(data: &[u8]) -> Result<(), Complaint> {
    match serde_json::from_slice::<IgnoredAny>(data) {
        Ok(IgnoredAny) => Ok(()),
        Err(error) => Err(
            Complaint::usage(format!("`--data` is no JSON: {error}")).hint(
                "quote it for the shell, like --data '{\"name\":\"Ann\"}', or use `--data @FILE`",
            ),
        ),
    }
}

/// `METHOD PATH`.
pub fn request_line(text: &str) -> Result<RequestLine, String> {
    let wrong = || "write it like 'GET /path'".to_owned();
    let (method, path) = text.split_once(' ').ok_or_else(wrong)?;
    let path = path.trim();
    let method = model::Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?;
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(RequestLine {
        method,
        path: path.to_owned(),
    })
}

/// `K:V`.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        Some(_) | None => Err("write it like `accept: text/plain`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn data_that_is_no_json_says_where() {
        let complaint = check_json(b"{\n  \"a\": }").unwrap_err();
        assert_eq!(complaint.exit, Exit::Usage);
        assert_eq!(
            complaint.message,
            "`--data` is no JSON: expected value at line 2 column 8"
        );
        assert!(check_json(b" {\"a\": [1]} ").is_ok());
        assert!(check_json(b"").is_err());
    }

    #[test]
    fn a_path_lies_under_the_function() {
        let function = |project: &str| FunctionId {
            project: project.parse().unwrap(),
            name: "hello".parse().unwrap(),
        };
        assert_eq!(
            full_path(&function("default"), "/Ann?x=1"),
            "/functions/hello/Ann?x=1"
        );
        assert_eq!(full_path(&function("shop"), "/"), "/functions/shop/hello/");
        assert_eq!(
            full_path(&function("shop"), "/functions/hello"),
            "/functions/hello"
        );
    }

    #[test]
    fn requests_and_headers_are_read_at_the_door() {
        assert_eq!(request_line("POST /x").unwrap().path, "/x");
        assert!(
            request_line("/x").is_err()
                && request_line("GET x").is_err()
                && request_line("G@T /x").is_err()
        );
        assert_eq!(header("a: b:c").unwrap(), ("a".into(), "b:c".into()));
        assert!(header("a").is_err() && header(": x").is_err());
    }
}
