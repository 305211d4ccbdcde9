//! How a function is named on AWS: by its name, by a partial or a whole ARN, each with a qualifier if need be.

use model::{FunctionId, Name};

use super::{ACCOUNT, Refusal};

/// A function as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub function: FunctionId,
    /// An alias, a published number or `$LATEST`; `None`: none was named.
    pub qualifier: Option<String>,
}

/// Longest name of a function, an ARN included.
const NAME_MAX: usize = 256;

impl Named {
    /// Reads the name in a path, and the qualifier beside it; both may bring one, if it is the same.
    pub(crate) fn parse(
        text: &str,
        qualifier: Option<&str>,
        region: &str,
    ) -> Result<Named, Refusal> {
        let shown: String = text.chars().take(NAME_MAX).collect();
        let misfit = || {
            let rule = "Member must satisfy regular expression pattern: \
                (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?";
            Refusal::constraint(&shown, "functionName", rule)
        };
        let mut parts: Vec<&str> = text.split(':').collect();
        if parts.first() == Some(&"arn") {
            let is_lambda = parts.len() >= 7 && parts[1].starts_with("aws") && parts[2] == "lambda";
            if !is_lambda || parts[5] != "function" {
                return Err(misfit());
            }
            parts.drain(..3);
        }
        if parts.len() > 1 && is_region(parts[0]) {
            let other = parts.remove(0);
            if other != region {
                let message = format!(
                    "Functions from '{other}' are not reachable in this region ('{region}')"
                );
                return Err(Refusal::not_found(message));
            }
        }
        if parts.len() > 1 && is_account(parts[0]) && parts.remove(0) != ACCOUNT {
            return Err(Refusal::no_function(&shown));
        }
        if parts.len() > 1 && parts[0] == "function" {
            parts.remove(0);
        }
        let (name, own) = match parts[..] {
            [name] => (name, None),
            [name, own] if is_qualifier(own) => (name, Some(own)),
            _ => return Err(misfit()),
        };
        let qualifier = qualifier.filter(|qualifier| !qualifier.is_empty());
        if let Some(bad) = qualifier.filter(|text| !is_qualifier(text)) {
            let rule = "Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)";
            return Err(Refusal::constraint(bad, "qualifier", rule));
        }
        if own.is_some() && qualifier.is_some() && own != qualifier {
            let message = "The derived qualifier from the function name does not match the specified qualifier.";
            return Err(Refusal::parameter(message));
        }
        if !name.bytes().all(is_plain) || name.is_empty() {
            return Err(misfit());
        }
        let Ok(name) = name.parse() else {
            let message = format!(
                "'{name}' is no name of a function here: at most 64 letters, digits, '_' and '-', not starting with '-'"
            );
            return Err(Refusal::parameter(message));
        };
        Ok(Named {
            function: FunctionId {
                project: Name::default_project(),
                name,
            },
            qualifier: own.or(qualifier).map(str::to_owned),
        })
    }

    /// Its ARN, with the qualifier if one was named.
    pub(crate) fn arn(&self, region: &str) -> String {
        arn_of(
            region,
            self.function.name.as_str(),
            self.qualifier.as_deref(),
        )
    }
}

/// The ARN of a function, or of one of its versions or aliases.
pub(crate) fn arn_of(region: &str, name: &str, qualifier: Option<&str>) -> String {
    let arn = format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}");
    match qualifier {
        Some(qualifier) => format!("{arn}:{qualifier}"),
        None => arn,
    }
}

/// Whether a text is shaped like `us-east-1` or `us-gov-west-1`.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.split_last() {
        Some((last, words)) => {
            words.len() >= 2
                && words.iter().all(is_word)
                && last.len() == 1
                && last.bytes().all(|b| b.is_ascii_digit())
        }
        None => false,
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_qualifier(text: &str) -> bool {
    text == "$LATEST" || (!text.is_empty() && text.len() <= 128 && text.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, qualifier: Option<&str>) -> Result<String, &'static str> {
        let named = Named::parse(text, qualifier, "us-east-1");
        named
            .map(|named| {
                let qualifier = named.qualifier.unwrap_or_default();
                format!("{} {qualifier}", named.function)
            })
            .map_err(|refusal| refusal.name())
    }

    #[test]
    fn a_function_is_named_by_name_or_arn() {
        for text in [
            "cart",
            "function:cart",
            "000000000000:function:cart",
            "us-east-1:000000000000:function:cart",
            "arn:aws:lambda:us-east-1:000000000000:function:cart",
        ] {
            assert_eq!(parse(text, None).unwrap(), "default/cart ", "{text}");
            let qualified = format!("{text}:PROD");
            assert_eq!(parse(&qualified, None).unwrap(), "default/cart PROD");
            assert_eq!(
                parse(&qualified, Some("PROD")).unwrap(),
                "default/cart PROD"
            );
        }
        assert_eq!(
            parse("cart", Some("$LATEST")).unwrap(),
            "default/cart $LATEST"
        );
    }

    #[test]
    fn what_names_no_function_of_ours_is_refused() {
        for (text, qualifier, name) in [
            ("a b", None, "ValidationException"),
            ("cart:a:b", None, "ValidationException"),
            (
                "arn:aws:s3:us-east-1:000000000000:function:x",
                None,
                "ValidationException",
            ),
            ("cart", Some("a.b"), "ValidationException"),
            ("cart:A", Some("B"), "InvalidParameterValueException"),
            ("-x", None, "InvalidParameterValueException"),
            (
                "123456789012:function:cart",
                None,
                "ResourceNotFoundException",
            ),
            (
                "eu-west-1:000000000000:function:cart",
                None,
                "ResourceNotFoundException",
            ),
        ] {
            assert_eq!(parse(text, qualifier), Err(name), "{text}");
        }
    }
}
