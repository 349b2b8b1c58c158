//! Certificates, CA certificates and keys, made on the spot.

use portcullis_entities::{CaCertificate, Certificate, Entity, Key};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use serde_json::{Value, json};

use super::entities::{patch, prepare, refused};

fn pair(of: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(of).unwrap();
    let certificate = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn authority(not_after: i32) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn a_certificate_needs_its_own_key() {
    let schema = Certificate::schema();
    for of in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let (cert, key) = pair(of);
        let (_, other) = pair(of);
        let made = prepare(&schema, json!({ "cert": cert, "key": key, "snis": ["a.test"] })).unwrap();
        assert_eq!(Certificate::from_record(&made).unwrap().snis.unwrap(), ["a.test"]);
        assert_eq!(refused(&schema, json!({ "cert": cert, "key": other })), json!({ "@entity": ["certificate does not match key"] }));
        assert_eq!(refused(&schema, json!({ "cert": cert })), json!({ "key": "required field missing" }));
    }
}

#[test]
fn what_is_no_pem_is_told_apart_from_what_does_not_match() {
    let found = refused(&Certificate::schema(), json!({ "cert": "not pem", "key": "not pem" }));
    assert!(found["cert"].as_str().unwrap().starts_with("invalid certificate: "));
    assert!(found["key"].as_str().unwrap().starts_with("invalid key: "));
}

#[test]
fn the_second_pair_is_whole_and_of_another_kind() {
    let schema = Certificate::schema();
    let ((cert, key), (same, same_key), (cert_alt, key_alt)) =
        (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ED25519));
    assert!(prepare(&schema, json!({ "cert": cert, "key": key, "cert_alt": cert_alt, "key_alt": key_alt })).is_ok());
    let text = "all or none of these fields must be set: 'cert_alt', 'key_alt'";
    assert_eq!(refused(&schema, json!({ "cert": cert, "key": key, "cert_alt": cert_alt })), json!({ "@entity": [text] }));
    let found = refused(&schema, json!({ "cert": cert, "key": key, "cert_alt": same, "key_alt": same_key }));
    assert!(found["@entity"][0].as_str().unwrap().starts_with("certificate and alternative certificate need"));
}

#[test]
fn certificates_kept_in_vaults_are_not_looked_into() {
    assert!(prepare(&Certificate::schema(), json!({ "cert": "{vault://env/c}", "key": "{vault://env/k}" })).is_ok());
}

#[test]
fn an_authority_is_one_valid_ca_certificate() {
    let schema = CaCertificate::schema();
    let cert = authority(2099);
    let made = prepare(&schema, json!({ "cert": cert })).unwrap();
    assert_eq!(made["cert_digest"].as_str().unwrap().len(), 64);
    let complaint = |cert: String| refused(&schema, json!({ "cert": cert }))["@entity"][0].clone();
    assert_eq!(complaint(format!("{cert}{cert}")), "please submit only one certificate at a time");
    assert_eq!(complaint(authority(1990)), "certificate expired, \"Not After\" time is in the past");
    let leaf = complaint(pair(&PKCS_ECDSA_P256_SHA256).0);
    assert_eq!(leaf, "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint");
}

#[test]
fn a_key_is_a_jwk_or_a_pem_pair() {
    let schema = Key::schema();
    let jwk = json!({ "kty": "EC", "kid": "k", "crv": "P-256", "x": "AA", "y": "AA" }).to_string();
    assert!(prepare(&schema, json!({ "kid": "k", "jwk": jwk })).is_ok());
    assert_eq!(refused(&schema, json!({ "kid": "other", "jwk": jwk })), json!({ "@entity": ["kid in jwk.kid must be equal to keys.kid"] }));
    let complaint = |jwk: &str| refused(&schema, json!({ "kid": "k", "jwk": jwk }))["@entity"][0].clone();
    assert_eq!(complaint("{\"kid\":\"k\"}"), "could not load JWK, likely not a valid key");
    assert_eq!(complaint("no json"), "could not json decode jwk string");
    let neither = refused(&schema, json!({ "kid": "k" }));
    assert_eq!(neither, json!({ "@entity": ["at least one of these fields must be non-empty: 'jwk', 'pem'"] }));
}

#[test]
fn halves_of_a_pem_pair_belong_together() {
    let schema = Key::schema();
    let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (private, public) = (one.serialize_pem(), one.public_key_pem());
    let made = prepare(&schema, json!({ "kid": "k", "pem": { "private_key": private, "public_key": public } })).unwrap();
    let found = patch(&schema, &made, json!({ "pem": { "public_key": other.public_key_pem() } })).unwrap_err().fields.unwrap();
    assert_eq!(found, json!({ "pem": "public key does not match private key" }));
    assert_eq!(refused(&schema, json!({ "kid": "k", "pem": {} }))["pem"]["@entity"].as_array().map(Vec::len), Some(1));
    assert_eq!(prepare(&schema, json!({ "kid": "k", "pem": { "public_key": public } })).unwrap()["pem"]["private_key"], Value::Null);
}
