//! Rules as tables of values, and against every text.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::Timestamp;

fn rule(text: &str) -> Rule {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn id(number: u64) -> InvocationId {
    let mut chance = [0; 10];
    chance[2..].copy_from_slice(&number.to_be_bytes());
    InvocationId::new(Timestamp(1_800_000_000_000), chance)
}

/// What a request of this header, path and user looks like to a rule.
fn is_met(text: &str, header: (&str, &str), path: &str, user: Option<&str>) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    let name: HeaderName = header.0.parse().unwrap();
    headers.append(name.clone(), HeaderValue::from_static("first"));
    headers.append(name, header.1.parse().unwrap());
    let http = HttpFacts {
        headers: &headers,
        path,
        user,
    };
    let facts = Facts {
        id: id(1),
        http: Some(http),
    };
    rule(text).matches(&facts)
}

#[test]
fn a_header_matches_by_its_name_in_any_case_and_its_value_as_it_is() {
    for (text, met) in [
        ("header:x-dev=ann", true),
        ("header:X-Dev=ann", true),
        ("header:x-dev=first", true),
        ("header:x-dev", true),
        ("header:x-dev=Ann", false),
        ("header:x-dev=an", false),
        ("header:x-other", false),
        ("header:x-dev=a=b", false),
    ] {
        assert_eq!(is_met(text, ("X-DEV", "ann"), "/", None), met, "{text}");
    }
    assert!(is_met("header:x-dev=a=b", ("x-dev", "a=b"), "/", None));
}

#[test]
fn a_path_matches_part_by_part() {
    for (text, path, met) in [
        ("path:/v2/*", "/v2/x", true),
        ("path:/v2/*", "/v2/x/y", true),
        ("path:/v2/*", "/v2/", true),
        ("path:/v2/*", "/v2", false),
        ("path:/v2/*", "/v20/x", false),
        ("path:/v2", "/v2", true),
        ("path:/v2", "/v2/", false),
        ("path:/users/:id/edit", "/users/7/edit", true),
        ("path:/users/:id/edit", "/users//edit", false),
        ("path:/users/:id", "/users/7/edit", false),
        ("path:/*", "/", true),
        ("path:/", "/", true),
        ("path:/", "/x", false),
    ] {
        assert_eq!(is_met(text, ("a", "b"), path, None), met, "{text} {path}");
    }
}

#[test]
fn a_user_matches_as_the_token_says() {
    assert!(is_met("user:ann", ("a", "b"), "/", Some("ann")));
    assert!(!is_met("user:ann", ("a", "b"), "/", Some("Ann")));
    assert!(!is_met("user:ann", ("a", "b"), "/", None));
}

#[test]
fn what_is_no_request_meets_only_percent_and_all() {
    let facts = Facts {
        id: id(1),
        http: None,
    };
    for (text, met) in [
        ("all", true),
        ("percent:100", true),
        ("path:/*", false),
        ("header:x-dev", false),
        ("user:ann", false),
    ] {
        assert_eq!(rule(text).matches(&facts), met, "{text}");
    }
    let ten = rule("percent:10");
    let met = (0..10_000).filter(|number| {
        let facts = Facts {
            id: id(*number),
            http: None,
        };
        ten.matches(&facts)
    });
    let met = met.count();
    assert!((900..1100).contains(&met), "{met}");
}

#[test]
fn the_narrower_rule_is_tried_first() {
    let order = [
        "header:x-dev=ann",
        "header:x-dev",
        "user:ann",
        "path:/v2/users/new",
        "path:/v2/users/*",
        "path:/v2/",
        "path:/v2/*",
        "path:/v2/:id",
        "path:/*",
        "percent:1",
        "percent:100",
        "all",
    ];
    let ranks: Vec<Rank> = order.iter().map(|text| rule(text).rank()).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
    assert_eq!(
        rule("header:a=b").rank(),
        rule("header:long-name=long").rank()
    );
    assert!(rule("path:/v2/users/new").rank() < rule("path:/v2/users/*").rank());
    assert_ne!(rule("path:/v2/").rank(), rule("path:/v2/*").rank());
}

#[test]
fn what_leaves_nothing_to_others_is_known() {
    for (text, everything) in [
        ("all", true),
        ("percent:100", true),
        ("path:/*", true),
        ("percent:99", false),
        ("path:/v2/*", false),
        ("path:/", false),
        ("header:x-dev", false),
        ("user:ann", false),
    ] {
        assert_eq!(rule(text).means_everything(), everything, "{text}");
    }
}

#[test]
fn what_matches_nothing_or_is_no_rule_is_refused_in_clear_words() {
    for (text, words) in [
        ("", "it is empty"),
        (":x", "it is empty"),
        ("percent:0", "0 of 100 would match nothing"),
        ("percent:000", "0 of 100 would match nothing"),
        ("percent:101", "larger than 100"),
        ("percent:99999", "larger than 100"),
        ("percent:10%", "without `%`"),
        ("percent:+7", "whole number from 1 to 100"),
        ("percent:", "whole number from 1 to 100"),
        ("percent", "needs a `:`"),
        ("header:", "the header has no name"),
        ("header:=x", "the header has no name"),
        ("header:x dev=ann", "no header can have that name"),
        ("header:x-dev=", "`header:x-dev` matches any value"),
        ("header:x-dev= ann", "begins or ends with a space"),
        ("header:x-dev=a\nb", "control character"),
        ("user:", "the user has no name"),
        ("user:a\u{7}b", "control character"),
        ("path:v2", "does not start with `/`"),
        ("path:/v2?x=1", "a path holds no '?'"),
        ("path:/a/*/b", "only as the last part"),
        ("path:/v2*", "only as the last part"),
        ("path:/:", "without a name"),
        ("all:now", "stands alone"),
        ("heder:x=1", "did you mean `header`?"),
        ("every", "no word of a rule"),
        (&format!("user:{}", "x".repeat(600)), "longer than 512"),
    ] {
        let error = text.parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
        assert!(error.contains("write `header:NAME=VALUE`"), "{error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn json_holds_a_rule_as_its_text() {
    let json = serde_json::to_string(&rule("header:X-Dev=ann")).unwrap();
    assert_eq!(json, r#""header:x-dev=ann""#);
    assert_eq!(
        serde_json::from_str::<Rule>(&json).unwrap(),
        rule("header:x-dev=ann")
    );
    assert!(serde_json::from_str::<Rule>(r#""percent:0""#).is_err());
}

proptest! {
    #[test]
    fn what_parses_reads_back_the_same(
        text in "(header:[a-zA-Z-]{0,6}(=[ -~]{0,6})?|user:.{0,6}|path:(/[a-z:*]{0,3}){0,4}|percent:[0-9]{0,4}|all|.{0,12})"
    ) {
        if let Ok(rule) = text.parse::<Rule>() {
            let again: Rule = rule.to_string().parse().expect("what is shown parses");
            prop_assert_eq!(&again, &rule);
            prop_assert_eq!(again.rank(), rule.rank());
        }
    }

    #[test]
    fn no_text_is_more_than_an_error(text in any::<String>()) {
        let _ = text.parse::<Rule>();
    }

    #[test]
    fn a_pattern_matches_the_path_made_from_it(parts in proptest::collection::vec("[a-z]{1,4}", 2..5), at in 0_usize..5) {
        let path = format!("/{}", parts.join("/"));
        let mut pattern = parts.clone();
        if at + 1 < pattern.len() {
            pattern[at] = ":any".into();
        } else if let Some(last) = pattern.last_mut() {
            *last = "*".into();
        }
        let rule: Rule = format!("path:/{}", pattern.join("/")).parse().expect("a rule");
        let Rule::Path(pattern) = rule else { panic!("a path") };
        prop_assert!(pattern.matches(&path));
        prop_assert!(!pattern.matches("/"), "{pattern}");
    }
}
