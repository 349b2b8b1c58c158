//! Project Wycheproof's vectors for every algorithm that tokens are signed with.
//!
//! They are not kept here: the test reads them from a clone of the project, whose folder `testvectors_v1` `PORTCULLIS_WYCHEPROOF` names.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use portcullis_entities::pem::PublicKey;
use serde_json::Value;

use super::token::Algorithm;

const FILES: [(Algorithm, &str); 13] = [
    (Algorithm::Hs256, "hmac_sha256"),
    (Algorithm::Hs384, "hmac_sha384"),
    (Algorithm::Hs512, "hmac_sha512"),
    (Algorithm::Rs256, "rsa_signature_2048_sha256"),
    (Algorithm::Rs384, "rsa_signature_2048_sha384"),
    (Algorithm::Rs512, "rsa_signature_2048_sha512"),
    (Algorithm::Ps256, "rsa_pss_2048_sha256_mgf1_32"),
    (Algorithm::Ps384, "rsa_pss_2048_sha384_mgf1_48"),
    (Algorithm::Ps512, "rsa_pss_4096_sha512_mgf1_64"),
    (Algorithm::Es256, "ecdsa_secp256r1_sha256_p1363"),
    (Algorithm::Es384, "ecdsa_secp384r1_sha384_p1363"),
    (Algorithm::Es512, "ecdsa_secp521r1_sha512_p1363"),
    (Algorithm::EdDsa, "ed25519"),
];

fn bytes(hex: &Value) -> Vec<u8> {
    let digits: Vec<u32> = hex.as_str().unwrap().chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// How many vectors of a file there were, and those that came out wrong.
fn run(algorithm: Algorithm, file: &Path) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for group in all["testGroups"].as_array().unwrap() {
        // Tokens carry whole tags only.
        if algorithm.is_symmetric() && group["tagSize"].as_u64() != all_bits(algorithm) {
            continue;
        }
        let key = group["publicKeyPem"].as_str().map(|pem| PublicKey::from_pem(pem).unwrap().bits);
        for test in group["tests"].as_array().unwrap() {
            let key = key.clone().unwrap_or_else(|| bytes(&test["key"]));
            let signature = test.get("sig").or(test.get("tag")).unwrap();
            let verified = algorithm.verifies(&key, &bytes(&test["msg"]), &bytes(signature));
            count += 1;
            if test["result"] != "acceptable" && verified != (test["result"] == "valid") {
                wrong.push(format!("{} {}: {} {}", file.display(), test["tcId"], test["result"], test["comment"]));
            }
        }
    }
    (count, wrong)
}

fn all_bits(algorithm: Algorithm) -> Option<u64> {
    algorithm.name().strip_prefix("HS").and_then(|bits| bits.parse().ok())
}

#[test]
#[ignore = "reads Project Wycheproof's vectors from the folder that PORTCULLIS_WYCHEPROOF names"]
fn every_vector_of_wycheproof_comes_out_as_it_should() {
    let folder = std::env::var_os("PORTCULLIS_WYCHEPROOF").unwrap();
    for (algorithm, name) in FILES {
        let (count, wrong) = run(algorithm, &Path::new(&folder).join(format!("{name}_test.json")));
        assert!(count > 50, "{name}: {count}");
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
        println!("{name}: {count}");
    }
}
