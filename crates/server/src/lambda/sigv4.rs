//! AWS Signature Version 4, from the side that checks it: what a request says that it was signed with, and whether it was.
//! Knows neither keys nor who may do what.

use http::{HeaderMap, Method, Uri};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::{digest, hmac};

/// The one algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What every scope ends with.
const TERMINATOR: &str = "aws4_request";

/// The service that requests to this profile are signed for.
const SERVICE: &str = "lambda";

/// How far the clocks of both sides may differ.
const SKEW_MINUTES: i64 = 5;

/// How times are written in requests.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Headers that are obeyed: where one of them is, it must have been signed.
const OBEYED: [&str; 7] = [
    "x-amz-client-context",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-invocation-type",
    "x-amz-log-type",
    "x-amz-security-token",
    "x-amz-tenant-id",
];

/// What stays as it is in a canonical request.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The same, for a path.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Why a signature is not believed, in AWS's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Disbelief {
    /// Something of it is missing, or not written as it has to be.
    #[error("{0}")]
    Incomplete(String),
    /// It is not that of this request, here and now.
    #[error("{0}")]
    Invalid(String),
}

/// A request as it was signed.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
}

/// What a request says that it was signed with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The access key.
    pub key_id: String,
    /// The region that it was meant for.
    pub region: String,
    /// Day, region, service and terminator, as they were written.
    scope: String,
    time: String,
    /// Names of the headers that are part of it, as they were written.
    headers: String,
    signature: Vec<u8>,
}

impl Signed {
    /// Whether a header names the algorithm, and is for us to read.
    pub(crate) fn is_one(authorization: &str) -> bool {
        authorization.starts_with(ALGORITHM)
    }

    /// Reads an `Authorization` header and the time that goes with it; `now` is ours.
    pub(crate) fn read(
        asked: Asked<'_>,
        authorization: &str,
        now: Timestamp,
    ) -> Result<Signed, Disbelief> {
        let fields = authorization.strip_prefix(ALGORITHM).unwrap_or_default();
        let field = |name: &str| {
            let mut fields = fields.split(',').map(str::trim);
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let names = ["Credential", "Signature", "SignedHeaders"];
        let found = names.map(|name| field(name).filter(|value| !value.is_empty()));
        let time = asked.headers.get("x-amz-date");
        let time = time.and_then(|time| time.to_str().ok());
        let [Some(credential), Some(signature), Some(headers)] = found else {
            return Err(incomplete(&names, &found, time.is_some(), authorization));
        };
        let Some(time) = time else {
            return Err(incomplete(&names, &found, false, authorization));
        };
        let (key_id, scope) = credential.split_once('/').unwrap_or((credential, ""));
        let region = checked_scope(scope, time)?;
        check_time(time, now)?;
        Ok(Signed {
            key_id: key_id.into(),
            region: region.into(),
            scope: scope.into(),
            time: time.into(),
            headers: headers.into(),
            // What is no signature is met as one that does not match.
            signature: hex::decode(signature).unwrap_or_default(),
        })
    }

    /// Checks that the request was signed so with this secret. Takes a time that says nothing of either.
    pub(crate) fn check(
        &self,
        secret: &str,
        asked: Asked<'_>,
        body: &[u8],
    ) -> Result<(), Disbelief> {
        let names: Vec<&str> = self.headers.split(';').collect();
        if !names.contains(&"host") {
            let message = "'Host' must be a 'SignedHeader' in the AWS Authorization.";
            return Err(Disbelief::Invalid(message.into()));
        }
        let is_added = |name: &&str| asked.headers.contains_key(*name) && !names.contains(name);
        let added: Vec<&str> = OBEYED.into_iter().filter(is_added).collect();
        if !added.is_empty() {
            return Err(Disbelief::Invalid(format!(
                "There were headers present in the request which were not signed: {}",
                added.join(", ")
            )));
        }
        let canonical = canonical(asked, &names, &self.headers, body);
        let text = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            self.time,
            self.scope,
            hex_digest(canonical.as_bytes())
        );
        let first = format!("AWS4{secret}").into_bytes();
        let key = self.scope.split('/').fold(first, |key, part| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            hmac::sign(&key, part.as_bytes()).as_ref().to_vec()
        });
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::verify(&key, text.as_bytes(), &self.signature).map_err(|_| {
            Disbelief::Invalid(
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method. \
                 Consult the service documentation for details."
                    .into(),
            )
        })
    }
}

fn incomplete(
    names: &[&str; 3],
    found: &[Option<&str>; 3],
    has_time: bool,
    authorization: &str,
) -> Disbelief {
    let mut says = String::new();
    for (name, _) in names.iter().zip(found).filter(|(_, value)| value.is_none()) {
        says.push_str(&format!(
            "Authorization header requires '{name}' parameter. "
        ));
    }
    if !has_time {
        says.push_str(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
        );
    }
    let kind = authorization.split([' ', ',']).next().unwrap_or_default();
    Disbelief::Incomplete(format!("{says}(Authorization: {kind})"))
}

/// The region of a scope that is one of this service, and of the day of `time`.
fn checked_scope<'a>(scope: &'a str, time: &str) -> Result<&'a str, Disbelief> {
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, region, service, terminator] = parts[..] else {
        let message = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term";
        return Err(Disbelief::Incomplete(format!("{message}, got '/{scope}'")));
    };
    let mut wrong = Vec::new();
    if service != SERVICE {
        wrong.push(format!(
            "Credential should be scoped to correct service: '{SERVICE}'. "
        ));
    }
    if terminator != TERMINATOR {
        wrong.push(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'. "
        ));
    }
    if !time.starts_with(day) || day.len() != 8 {
        let theirs = time.get(..8).unwrap_or(time);
        wrong.push(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '{day}' != '{theirs}', from '{time}'. "
        ));
    }
    match wrong.is_empty() {
        true => Ok(region),
        false => Err(Disbelief::Invalid(wrong.concat().trim_end().into())),
    }
}

/// Refuses what was signed too long ago, or is yet to be signed.
fn check_time(time: &str, now: Timestamp) -> Result<(), Disbelief> {
    let signed = DateTime::strptime(TIME, time).ok();
    let signed = signed.and_then(|signed| signed.to_zoned(TimeZone::UTC).ok());
    let Some(signed) = signed.map(|signed| signed.timestamp()) else {
        let message = format!(
            "Date must be in ISO-8601 'basic format'. Got '{time}'. See http://en.wikipedia.org/wiki/ISO_8601"
        );
        return Err(Disbelief::Incomplete(message));
    };
    let skew = SignedDuration::from_mins(SKEW_MINUTES);
    let shown = |time: Timestamp| time.strftime(TIME).to_string();
    let earliest = now.checked_sub(skew).unwrap_or(now);
    let latest = now.checked_add(skew).unwrap_or(now);
    if signed < earliest {
        return Err(Disbelief::Invalid(format!(
            "Signature expired: {time} is now earlier than {} ({} - {SKEW_MINUTES} min.)",
            shown(earliest),
            shown(now)
        )));
    }
    if signed > latest {
        return Err(Disbelief::Invalid(format!(
            "Signature not yet current: {time} is still later than {} ({} + {SKEW_MINUTES} min.)",
            shown(latest),
            shown(now)
        )));
    }
    Ok(())
}

/// The request in the one form in which both sides write it.
fn canonical(asked: Asked<'_>, names: &[&str], list: &str, body: &[u8]) -> String {
    let path = match asked.uri.path() {
        "" => "/",
        path => path,
    };
    let mut text = format!(
        "{}\n{}\n{}\n",
        asked.method,
        // Once more than it stands in the request: only S3 is signed otherwise.
        utf8_percent_encode(path, RESERVED_IN_PATH),
        canonical_query(asked.uri.query().unwrap_or_default())
    );
    for name in names {
        let values = asked.headers.get_all(*name).iter();
        let values = values.map(|value| {
            let value = String::from_utf8_lossy(value.as_bytes());
            value.split_whitespace().collect::<Vec<_>>().join(" ")
        });
        let values: Vec<String> = values.collect();
        text.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    text.push_str(&format!("\n{list}\n{}", hex_digest(body)));
    text
}

/// Parameters in order, however they were escaped.
fn canonical_query(query: &str) -> String {
    let escaped = |text: &str| {
        let text: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&text, RESERVED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (escaped(name), escaped(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests;
