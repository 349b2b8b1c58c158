//! jwt: whatever a token looks like, it is taken apart or refused, and nobody gets in without the key.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use portcullis_plugin::Handler;
use portcullis_plugin::testing::{People, TestRequest, answer, plugin};
use portcullis_plugins::jwt::Jwt;
use serde_json::json;
use uuid::Uuid;

const ALGORITHMS: [&str; 5] = ["HS256", "RS256", "ES256", "PS384", "EdDSA"];

#[derive(Arbitrary, Debug)]
enum Token<'a> {
    Raw(&'a str),
    /// Three parts, encoded as they should be.
    Parts { header: &'a str, claims: &'a str, signature: &'a [u8] },
    /// A well-formed token that only lacks a true signature.
    Forged { algorithm: u8, claims: Vec<(&'a str, i32)>, signature: &'a [u8] },
}

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = (u32::from(chunk[0]) << 16) | (u32::from(*chunk.get(1).unwrap_or(&0)) << 8) | u32::from(*chunk.get(2).unwrap_or(&0));
        (0..=chunk.len()).for_each(|at| out.push(char::from(DIGITS[(group >> (18 - 6 * at)) as usize & 63])));
    }
    out
}

static PLUGIN: LazyLock<Jwt> = LazyLock::new(|| plugin(json!({ "claims_to_verify": ["exp", "nbf"], "cookie_names": ["mug"] })));

fuzz_target!(|token: Token<'_>| {
    let text = match token {
        Token::Raw(text) => text.to_owned(),
        Token::Parts { header, claims, signature } => {
            format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(signature))
        }
        Token::Forged { algorithm, claims, signature } => {
            let algorithm = ALGORITHMS[usize::from(algorithm) % ALGORITHMS.len()];
            let mut all = json!({ "iss": algorithm, "exp": 4_000_000_000_u64, "nbf": 0 });
            claims.iter().for_each(|(name, value)| all[*name] = json!(value));
            let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
            format!("{}.{}.{}", encode(header.as_bytes()), encode(all.to_string().as_bytes()), encode(signature))
        }
    };
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return;
    }
    let owner = Uuid::from_u128(1);
    let people = ALGORITHMS.iter().fold(People::default().consumer(owner, "ann"), |people, algorithm| {
        let fields = json!({ "secret": "3f8c1d0b9a7e6524c0ffee5eed5eed12", "rsa_public_key": KEY, "algorithm": algorithm });
        people.credential("jwt_secrets", algorithm, owner, fields)
    });
    let places = [("Authorization", format!("Bearer {text}")), ("Cookie", format!("mug={text}"))];
    for (name, value) in places {
        let mut request = TestRequest::get("/").header(name, &value).people(&people).build();
        let refusal = answer(PLUGIN.access(&mut request)).expect("nobody gets in");
        assert_eq!(refusal.status, 401);
        assert!(request.credential.is_none() && request.consumer.is_none());
    }
});

/// Some Ed25519 key; its private half was never kept.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
