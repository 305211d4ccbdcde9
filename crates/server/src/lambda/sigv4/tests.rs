//! Signatures that AWS's own signer made, and what is wrong with others.

use http::{HeaderMap, Method, Request, Uri};
use jiff::{SignedDuration, Timestamp};

use super::{Asked, Disbelief, Signed};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const PATH: &str = "/2015-03-31/functions/f/configuration";
const BODY: &str = r#"{"Environment":{"Variables":{"A":"1"}},"RevisionId":"r1"}"#;
const SIGNATURE: &str = "f2a6176eb068b91bf4b087206b5d015abb5bff0aaba80632ec800b48303596a5";

/// A request, and the moment of its signature.
struct Sample {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    now: Timestamp,
}

impl Sample {
    /// That of the Lambda profile.
    fn put() -> Sample {
        let request = Request::put(PATH)
            .header("host", "lambda.us-east-1.amazonaws.com")
            .header("content-type", "application/json")
            .header("x-amz-date", "20250102T030405Z");
        Sample::of(request)
    }

    fn of(request: http::request::Builder) -> Sample {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Sample {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            now: "2025-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        }
    }

    fn check(&self, headers: &str, signature: &str, body: &str) -> Result<(), Disbelief> {
        let scope = "20250102/us-east-1/lambda/aws4_request";
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={headers}, Signature={signature}"
        );
        let signed = Signed::read(self.asked(), &authorization, self.now)?;
        assert_eq!(
            (&*signed.key_id, &*signed.region),
            ("AKIDEXAMPLE", "us-east-1")
        );
        signed.check(SECRET, self.asked(), body.as_bytes())
    }

    fn says(&self, authorization: &str) -> Disbelief {
        Signed::read(self.asked(), authorization, self.now).unwrap_err()
    }
}

#[test]
fn what_the_real_signer_signed_is_believed() {
    let headers = "content-type;host;x-amz-date";
    assert_eq!(Sample::put().check(headers, SIGNATURE, BODY), Ok(()));
}

/// Made with botocore: the colons of an ARN and the order of a query are where signers differ.
#[test]
fn an_arn_in_the_path_and_a_query_are_signed_as_they_travel() {
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af";
    let uri = format!("/2015-03-31/functions/{arn}/invocations?Qualifier=%24LATEST&B=x%20y&A=");
    let request = Request::post(uri)
        .header("host", "127.0.0.1:9001")
        .header("x-amz-client-context", "e30=")
        .header("x-amz-date", "20250102T030405Z");
    let headers = "host;x-amz-client-context;x-amz-date";
    let signature = "9cfa4a4e56588b8e0230d83792cdd1403795246ecb6b7d8941951979c9e3cf9a";
    assert_eq!(Sample::of(request).check(headers, signature, "{}"), Ok(()));
}

#[test]
fn whatever_changed_on_the_way_is_noticed() {
    let headers = "content-type;host;x-amz-date";
    let mismatch = |done: Result<(), Disbelief>| {
        let says = done.unwrap_err().to_string();
        assert!(
            says.starts_with("The request signature we calculated does not match"),
            "{says}"
        );
    };
    let sample = Sample::put();
    mismatch(sample.check(headers, SIGNATURE, r#"{"RevisionId":"r2"}"#));
    for signature in ["00", "zz", &SIGNATURE.replace('f', "e")] {
        mismatch(sample.check(headers, signature, BODY));
    }
    let mut other = Sample::put();
    other
        .headers
        .insert("content-type", "text/plain".parse().unwrap());
    mismatch(other.check(headers, SIGNATURE, BODY));
    let mut other = Sample::put();
    other.method = Method::POST;
    mismatch(other.check(headers, SIGNATURE, BODY));
    let mut other = Sample::put();
    other.uri = "/2015-03-31/functions/g/configuration".parse().unwrap();
    mismatch(other.check(headers, SIGNATURE, BODY));
    let unhosted = sample.check("content-type;x-amz-date", SIGNATURE, BODY);
    assert!(unhosted.unwrap_err().to_string().contains("'Host' must be"));
}

#[test]
fn a_signature_counts_for_five_minutes_either_way() {
    let headers = "content-type;host;x-amz-date";
    for (minutes, says) in [
        (
            -6,
            "Signature not yet current: 20250102T030405Z is still later than 20250102T030305Z (20250102T025805Z + 5 min.)",
        ),
        (-4, ""),
        (5, ""),
        (
            6,
            "Signature expired: 20250102T030405Z is now earlier than 20250102T030505Z (20250102T031005Z - 5 min.)",
        ),
    ] {
        let mut sample = Sample::put();
        sample.now += SignedDuration::from_mins(minutes);
        let done = sample.check(headers, SIGNATURE, BODY);
        assert_eq!(
            done.err().map_or(String::new(), |error| error.to_string()),
            says
        );
    }
}

#[test]
fn what_is_missing_or_meant_for_others_is_named() {
    let sample = Sample::put();
    let says = |text: &str| sample.says(text).to_string();
    let all = says("AWS4-HMAC-SHA256 nonsense");
    for name in ["Credential", "Signature", "SignedHeaders"] {
        assert!(
            all.contains(&format!("requires '{name}' parameter")),
            "{all}"
        );
    }
    let with = |credential: &str| {
        says(&format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00"
        ))
    };
    assert!(with("AKID").contains("5 slash-delimited elements"));
    assert!(with("AKID/20250102/x/s3/aws4_request").contains("correct service: 'lambda'"));
    assert!(with("AKID/20250102/x/lambda/aws5").contains("valid terminator"));
    assert!(with("AKID/20250103/x/lambda/aws4_request").contains("'20250103' != '20250102'"));
    let mut undated = Sample::put();
    undated.headers.remove("x-amz-date");
    let fields = "Credential=AKID/20250102/x/lambda/aws4_request, SignedHeaders=host, Signature=00";
    let signed = format!("AWS4-HMAC-SHA256 {fields}");
    assert!(undated.says(&signed).to_string().contains("'X-Amz-Date'"));
    undated
        .headers
        .insert("x-amz-date", "20250102".parse().unwrap());
    assert!(undated.says(&signed).to_string().contains("ISO-8601"));
}
