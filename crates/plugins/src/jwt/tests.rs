//! Which tokens let a request in.
#![allow(clippy::unwrap_used)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, KeyPair};
use aws_lc_rs::{encoding::AsDer, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_plugin::testing::{ARRIVAL, People, TestRequest, answer, configured, plugin, row, text_of};
use portcullis_plugin::{Answer, Body, Entry, Handler, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ENTITY, Jwt};

const ANNA: Uuid = Uuid::from_u128(0xa);
const SECRET: &[u8] = b"harbour-secret";

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn signed(header: Value, claims: Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = unsigned(&header, &claims);
    let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

fn hs256(claims: Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    signed(json!({ "typ": "JWT", "alg": "HS256" }), claims, |text| hmac::sign(&key, text).as_ref().to_vec())
}

fn people(fields: Value) -> People {
    People::default().consumer(ANNA, "anna").credential(ENTITY, "app", ANNA, fields)
}

fn run_with(config: Value, fields: Value, token: &str) -> (Option<Answer>, Request) {
    let request = TestRequest::get("/").people(&people(fields)).header("Authorization", &format!("Bearer {token}"));
    let mut request = request.build();
    let answer = answer(plugin::<Jwt>(config).access(&mut request));
    (answer, request)
}

fn run(config: Value, token: &str) -> (Option<Answer>, Request) {
    run_with(config, json!({ "algorithm": "HS256", "secret": "harbour-secret" }), token)
}

fn body(answer: Option<Answer>) -> Value {
    match answer.unwrap().body {
        Body::Json(body) => body,
        other => panic!("{other:?}"),
    }
}

fn flaw(token: &str) -> String {
    body(run(json!({}), token).0)["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_signed_with_the_credentials_secret_lets_in() {
    let (answer, request) = run(json!({}), &hs256(json!({ "iss": "app" })));
    assert_eq!(answer, None);
    assert_eq!(text_of(&request.head.headers, "x-consumer-username").unwrap(), "anna");
    assert_eq!(text_of(&request.head.headers, "x-credential-identifier").unwrap(), "app");
}

#[test]
fn every_flaw_has_its_message() {
    assert_eq!(flaw("not-a-token"), "Bad token; invalid JSON");
    assert_eq!(flaw("a.b.c"), "Bad token; invalid JSON");
    let named = json!({ "iss": "app" });
    assert_eq!(flaw(&format!("{}.", unsigned(&json!({ "typ": "JWT", "alg": "none" }), &named))), "Bad token; invalid alg");
    assert_eq!(flaw(&format!("{}.", unsigned(&json!({ "typ": "PDF", "alg": "HS256" }), &named))), "Invalid signature");
    assert_eq!(flaw(&format!("{}.", unsigned(&json!(["HS256"]), &named))), "Bad token; invalid alg");
    assert_eq!(flaw(&hs256(json!([]))), "No mandatory 'iss' in claims");
    assert_eq!(flaw(&format!("{}.", unsigned(&json!({ "alg": "HS256" }), &named))), "Invalid signature");
    assert_eq!(flaw(&format!("{}.", unsigned(&json!({ "alg": "HS384" }), &named))), "Invalid algorithm");
    assert_eq!(flaw(&hs256(json!({}))), "No mandatory 'iss' in claims");
    assert_eq!(flaw(&hs256(json!({ "iss": "" }))), "Invalid 'iss' in claims");
    assert_eq!(flaw(&hs256(json!({ "iss": "nobody" }))), "No credentials found for given 'iss'");
}

#[test]
fn a_missing_token_is_no_invalid_one() {
    let challenge = |answer: Option<Answer>| String::from_utf8(answer.unwrap().headers[0].1.clone()).unwrap();
    let config = json!({ "realm": "bridge" });
    let mut bare = TestRequest::get("/").build();
    let missing = answer(plugin::<Jwt>(config.clone()).access(&mut bare));
    assert_eq!(challenge(missing), "Bearer realm=\"bridge\"");
    assert_eq!(challenge(run(config, "x.y.z").0), "Bearer realm=\"bridge\" error=\"invalid_token\"");
}

#[test]
fn the_key_may_be_named_in_the_header_and_by_another_claim() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let token = signed(json!({ "alg": "HS256", "kid": "app" }), json!({}), |text| hmac::sign(&key, text).as_ref().to_vec());
    assert_eq!(run(json!({ "key_claim_name": "kid" }), &token).0, None);
}

#[test]
fn secrets_may_be_kept_in_base64() {
    let kept = json!({ "algorithm": "HS256", "secret": URL_SAFE_NO_PAD.encode(SECRET) });
    assert_eq!(run_with(json!({ "secret_is_base64": true }), kept, &hs256(json!({ "iss": "app" }))).0, None);
}

fn pem(spki: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki))
}

#[test]
fn public_keys_check_what_private_keys_signed() {
    let random = SystemRandom::new();
    let rsa = signature::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa_public = pem(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(rsa.public_key()).unwrap().as_ref());
    let token = |algorithm: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| signed(json!({ "alg": algorithm }), json!({ "iss": "app" }), sign);
    let passes = |algorithm: &str, public: &str, token: &str| {
        run_with(json!({}), json!({ "algorithm": algorithm, "rsa_public_key": public }), token).0.is_none()
    };

    for (algorithm, encoding) in [
        ("RS256", &signature::RSA_PKCS1_SHA256 as &'static dyn signature::RsaEncoding),
        ("RS384", &signature::RSA_PKCS1_SHA384),
        ("RS512", &signature::RSA_PKCS1_SHA512),
        ("PS256", &signature::RSA_PSS_SHA256),
        ("PS384", &signature::RSA_PSS_SHA384),
        ("PS512", &signature::RSA_PSS_SHA512),
    ] {
        let good = token(algorithm, &|text| {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(encoding, &random, text, &mut signature).unwrap();
            signature
        });
        assert!(passes(algorithm, &rsa_public, &good), "{algorithm}");
        assert!(!passes(algorithm, &rsa_public, &format!("{good}A")), "{algorithm}");
    }
    for (algorithm, curve) in [
        ("ES256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("ES512", &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        let pair = signature::EcdsaKeyPair::generate(curve).unwrap();
        let public = pem(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref());
        let good = token(algorithm, &|text| pair.sign(&random, text).unwrap().as_ref().to_vec());
        assert!(passes(algorithm, &public, &good), "{algorithm}");
        assert!(!passes(algorithm, &rsa_public, &good), "{algorithm}");
    }
    let pair = signature::Ed25519KeyPair::generate().unwrap();
    let public = pem(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref());
    assert!(passes("EdDSA", &public, &token("EdDSA", &|text| pair.sign(text).as_ref().to_vec())));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAO29COBUsHp5e7REb/dzMXmu+KFm0xhd+IRz9wVfyVNE=\n-----END PUBLIC KEY-----\n";
    let key = hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes());
    let token = signed(json!({ "alg": "HS256" }), json!({ "iss": "app" }), |text| hmac::sign(&key, text).as_ref().to_vec());
    let (answer, _) = run_with(json!({}), json!({ "algorithm": "EdDSA", "rsa_public_key": public }), &token);
    assert_eq!(body(answer), json!({ "message": "Invalid algorithm" }));
}

#[test]
fn registered_claims_are_checked_where_that_is_asked_for() {
    let now = ARRIVAL;
    let config = json!({ "claims_to_verify": ["exp", "nbf"] });
    let wrong = |claims: Value| body(run(config.clone(), &hs256(claims)).0);
    assert_eq!(run(config.clone(), &hs256(json!({ "iss": "app", "exp": now + 1, "nbf": now }))).0, None);
    assert_eq!(wrong(json!({ "iss": "app", "exp": now, "nbf": now + 1 })), json!({ "exp": "token expired", "nbf": "token not valid yet" }));
    assert_eq!(wrong(json!({ "iss": "app", "exp": "1", "nbf": 1 })), json!({ "exp": "must be a number" }));
    assert_eq!(run(json!({}), &hs256(json!({ "iss": "app", "exp": 1 }))).0, None);
}

#[test]
fn tokens_may_not_last_for_ever() {
    let config = json!({ "claims_to_verify": ["exp"], "maximum_expiration": 60 });
    assert_eq!(run(config.clone(), &hs256(json!({ "iss": "app", "exp": ARRIVAL + 60 }))).0, None);
    let (answer, _) = run(config, &hs256(json!({ "iss": "app", "exp": ARRIVAL + 61 })));
    assert_eq!(body(answer), json!({ "exp": "exceeds maximum allowed expiration" }));
    let error = configured(&Entry::of::<Jwt>(), json!({ "claims_to_verify": ["nbf"], "maximum_expiration": 60 })).unwrap_err();
    assert_eq!(error.fields.unwrap()["config"], json!({ "claims_to_verify": "expected to contain: exp" }));
}

#[test]
fn preflights_may_pass_and_strangers_may_be_anonymous() {
    let mut preflight = TestRequest::new("OPTIONS", "/").build();
    assert_eq!(answer(plugin::<Jwt>(json!({ "run_on_preflight": false })).access(&mut preflight)), None);
    let (answer, request) = run(json!({ "anonymous": "anna" }), "x.y.z");
    assert_eq!((answer, request.credential.is_none()), (None, true));
}

#[test]
fn algorithms_with_a_public_key_need_a_usable_one() {
    let of = |fields: Value| {
        let mut input = json!({ "consumer": { "id": ANNA } });
        input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        row(&Entry::of::<Jwt>(), ENTITY, input)
    };
    let fields =
        |result: Result<_, portcullis_schema::ApiError>| result.map(|_: portcullis_schema::Record| ()).unwrap_err().fields.unwrap();
    assert_eq!(fields(of(json!({ "algorithm": "RS384" })))["rsa_public_key"], "required field missing");
    assert_eq!(fields(of(json!({ "algorithm": "PS512", "rsa_public_key": "not a key" })))["rsa_public_key"], "invalid key");
    assert!(of(json!({ "algorithm": "ES384" })).is_ok());
    assert_eq!(of(json!({})).unwrap()["secret"].as_str().unwrap().len(), 32);
}
