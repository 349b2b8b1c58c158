//! Which signatures let a request in.
#![allow(clippy::unwrap_used)]

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_plugin::testing::{People, TestRequest, answer, plugin, text_of};
use portcullis_plugin::{Answer, Handler, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::signing::{Parameters, text};
use super::{ENTITY, HmacAuth, instant};

const ANNA: Uuid = Uuid::from_u128(0xa);
/// When test requests arrive.
const DATE: &str = "Sat, 31 Jan 2026 00:01:00 GMT";

fn request(method: &str, target: &str) -> TestRequest {
    let people = People::default().consumer(ANNA, "anna").credential(ENTITY, "tide", ANNA, json!({ "secret": "tide-secret" }));
    TestRequest::new(method, target).people(&people)
}

fn signature(algorithm: hmac::Algorithm, text: &str) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(algorithm, b"tide-secret"), text.as_bytes()))
}

fn header(algorithm: &str, names: &str, signature: &str) -> String {
    format!("hmac username=\"tide\", algorithm=\"{algorithm}\", headers=\"{names}\", signature=\"{signature}\"")
}

fn dated(signed: &str) -> String {
    header("hmac-sha256", "date", &signature(hmac::HMAC_SHA256, signed))
}

fn good() -> String {
    dated(&format!("date: {DATE}"))
}

fn run(config: Value, request: TestRequest) -> (Option<Answer>, Request) {
    let mut request = request.build();
    let answer = answer(plugin::<HmacAuth>(config).access(&mut request));
    (answer, request)
}

fn refusal(message: &'static str) -> Option<Answer> {
    Some(Answer::error(401, message).header("WWW-Authenticate", "hmac"))
}

#[test]
fn each_algorithm_lets_in() {
    for (name, algorithm) in [
        ("hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ("hmac-sha256", hmac::HMAC_SHA256),
        ("hmac-sha384", hmac::HMAC_SHA384),
        ("hmac-sha512", hmac::HMAC_SHA512),
    ] {
        let header = header(name, "date", &signature(algorithm, &format!("date: {DATE}")));
        let (answer, request) = run(json!({}), request("GET", "/").header("Date", DATE).header("Authorization", &header));
        assert_eq!(answer, None, "{name}");
        assert_eq!(text_of(&request.head.headers, "x-credential-identifier").unwrap(), "tide");
    }
}

#[test]
fn the_date_is_looked_at_first() {
    let no_date = "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication";
    assert_eq!(run(json!({}), request("GET", "/")).0, refusal("Unauthorized"));
    assert_eq!(run(json!({}), request("GET", "/").header("Authorization", "Bearer x")).0, refusal(no_date));
    for date in ["not a date", "Fri, 30 Jan 2026 23:55:59 GMT", "Sat, 31 Jan 2026 00:06:01 GMT"] {
        let request = request("GET", "/").header("Date", date).header("Authorization", &dated(&format!("date: {date}")));
        assert_eq!(run(json!({}), request).0, refusal(no_date), "{date}");
    }
}

#[test]
fn one_good_date_is_enough() {
    let header = header("hmac-sha256", "x-date", &signature(hmac::HMAC_SHA256, &format!("x-date: {DATE}")));
    let request = request("GET", "/").header("X-Date", DATE).header("Date", "not a date").header("Authorization", &header);
    assert_eq!(run(json!({}), request).0, None);
}

#[test]
fn what_cannot_be_checked_and_what_does_not_fit_are_told_apart() {
    let with = |header: &str| run(json!({}), request("GET", "/").header("Date", DATE).header("Authorization", header)).0;
    let unverifiable = refusal("HMAC signature cannot be verified");
    assert_eq!(with("Bearer x"), unverifiable);
    assert_eq!(with(&good().replace("tide", "ghost")), unverifiable);
    assert_eq!(with(&good().replace("sha256", "md5")), unverifiable);
    assert_eq!(with(&good().replace("algorithm=\"hmac-sha256\", ", "")), unverifiable);
    assert_eq!(with(&dated("date: another")), refusal("HMAC signature does not match"));
    assert_eq!(with(&header("hmac-sha256", "date", "!!!")), refusal("HMAC signature does not match"));
}

#[test]
fn algorithms_and_signed_headers_can_be_demanded() {
    let with = |config: Value| run(config, request("GET", "/").header("Date", DATE).header("Authorization", &good())).0;
    let unverifiable = refusal("HMAC signature cannot be verified");
    assert_eq!(with(json!({ "algorithms": ["hmac-sha512"] })), unverifiable);
    assert_eq!(with(json!({ "enforce_headers": ["date", "request-line"] })), unverifiable);
    assert_eq!(with(json!({ "enforce_headers": ["date"] })), None);
}

#[test]
fn lines_are_signed_as_the_client_spelled_them() {
    let names = ["Date", "request-line", "@request-target", "x-absent", "host"].map(str::to_owned);
    let request = request("POST", "/a%20b?c=%2F").header("Date", DATE).build();
    let lines = format!("Date: {DATE}\nPOST /a%20b?c=%2F HTTP/1.1\n@request-target: post /a%20b?c=%2F\nx-absent:\nhost: gateway.test");
    assert_eq!(String::from_utf8(text(&request, &names)).unwrap(), lines);
}

#[test]
fn a_date_is_read_up_to_its_seconds() {
    let noon = instant("Sun, 06 Nov 1994 12:00:00 GMT");
    assert!(noon.is_some());
    for same in ["Sun, 06 Nov 1994 12:00:00", "Sun, 06 Nov 1994 12:00:00 -0700", "Sunday, 06-Nov-94 12:00:00", "Sun Nov  6 12:00:00 1994"] {
        assert_eq!(instant(same), noon, "{same}");
    }
    assert_eq!(instant("06 Nov 1994"), None);
}

#[test]
fn parameters_need_no_blanks_between_them() {
    let parsed = Parameters::parse(br#"Hmac username="u",algorithm="a",headers="date  host",signature="s""#).unwrap();
    assert_eq!((parsed.username.as_str(), parsed.headers), ("u", ["date", "", "host"].map(str::to_owned).to_vec()));
    assert_eq!(Parameters::parse(br#"hmac algorithm="a", username="u", headers="date", signature="s""#), None);
}

#[test]
fn the_digest_is_that_of_the_body() {
    let config = || json!({ "validate_request_body": true });
    let digest = |body: &str| format!("SHA-256={}", STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes())));
    let with = |body: &str, digest: Option<String>| {
        let request = request("POST", "/").body("text/plain", body).header("Date", DATE).header("Authorization", &good());
        let request = digest.iter().fold(request, |request, digest| request.header("Digest", digest));
        run(config(), request).0
    };
    assert_eq!(with("rope", Some(digest("rope"))), None);
    assert_eq!(with("gold", Some(digest("rope"))), refusal("HMAC signature does not match"));
    assert_eq!(with("rope", None), refusal("HMAC signature does not match"));
    assert_eq!(with("", None), None);
    assert_eq!(run(config(), request("GET", "/").header("Date", DATE).header("Authorization", &good())).0, None);
}

#[test]
fn only_the_header_that_was_used_is_hidden() {
    let config = || json!({ "hide_credentials": true });
    let both = request("GET", "/").header("Date", DATE).header("Proxy-Authorization", "nonsense").header("Authorization", &good());
    let (answer, request_after) = run(config(), both);
    assert_eq!(answer, None);
    assert_eq!(text_of(&request_after.head.headers, "proxy-authorization").unwrap(), "nonsense");
    assert_eq!(text_of(&request_after.head.headers, "authorization"), None);
    let (answer, after) = run(config(), request("GET", "/").header("Date", DATE).header("Proxy-Authorization", &good()));
    assert_eq!((answer, text_of(&after.head.headers, "proxy-authorization")), (None, None));
}
