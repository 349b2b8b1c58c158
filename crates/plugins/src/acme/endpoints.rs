//! What the Admin API gains: orders and renewals by hand, and a list of what there is.

use std::sync::{Arc, PoisonError};

use aws_lc_rs::digest;
use portcullis_plugin::{AdminCall, Answer, Endpoint, Env, answering};
use serde_json::{Value, json};
use tracing::warn;
use x509_parser::pem::parse_x509_pem;
use x509_parser::time::ASN1Time;

use super::office::Office;
use super::{Current, NOT_FOUND};
use crate::secret;

pub fn all() -> Vec<Endpoint> {
    vec![
        Endpoint { method: "POST", path: "/acme", handle: |env, call| answering(order(env, call)) },
        Endpoint { method: "PATCH", path: "/acme", handle: |env, _| answering(renew(env)) },
        Endpoint { method: "GET", path: "/acme/certificates", handle: |env, _| answering(list(env)) },
        Endpoint { method: "GET", path: "/acme/certificates/{certificates}", handle: |env, call| answering(show(env, call)) },
    ]
}

fn office(env: &Env) -> Option<Arc<Office>> {
    env.state.get::<Current>().0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
}

fn message(status: u16, text: impl Into<String>) -> Answer {
    Answer::json(status, json!({ "message": text.into() }))
}

async fn order(env: Env, call: AdminCall) -> Answer {
    let Some(office) = office(&env) else { return Answer::status(404) };
    let host = call.body.get("host").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if host.is_empty() || host.contains([',', ' ', '/']) {
        return message(400, "host must be provided and containing a single domain");
    }
    if host.contains(':') {
        return message(400, "port is not allowed in host");
    }
    let flag = |value: &Value| value == &Value::Bool(true) || value.as_str().is_some_and(|text| matches!(text, "true" | "1"));
    if call.body.get("test_http_challenge_flow").is_some_and(flag) {
        return match check(&office, &host).await {
            Ok(()) => message(200, format!("sanity test for host {host} passed")),
            Err(problem) => message(400, format!("problem found running sanity check for {host}: {problem}")),
        };
    }
    // On a task of its own: an order goes on even if whoever asked for it goes away.
    let ordering = tokio::spawn({
        let (office, host) = (office.clone(), host.clone());
        async move { office.order(&host).await }
    });
    let ordered = ordering.await.unwrap_or_else(|error| Err(error.into()));
    match ordered {
        Ok(()) => message(201, format!("certificate for host {host} is created")),
        Err(error) => {
            warn!(host, %error, "an order failed");
            message(500, format!("failed to update certificate for host {host}: {error}"))
        }
    }
}

/// Whether a request for a proof would come here.
async fn check(office: &Office, host: &str) -> Result<(), String> {
    if !office.allows(host) {
        return Err("the host is not among the configured domains".to_owned());
    }
    let (status, body) =
        office.authority.fetch(&format!("http://{host}/.well-known/acme-challenge/x")).await.map_err(|error| error.to_string())?;
    if status == 404 && *body == *NOT_FOUND.as_bytes() {
        return Ok(());
    }
    Err(format!("unexpected response: status {status}; make sure that a route leads to /.well-known/acme-challenge over http"))
}

async fn renew(env: Env) -> Answer {
    let Some(office) = office(&env) else { return Answer::status(404) };
    tokio::spawn(async move { office.renew().await });
    message(202, "Renewal process started successfully")
}

async fn list(env: Env) -> Answer {
    let Some(office) = office(&env) else { return Answer::status(404) };
    let names = match office.names().await {
        Ok(names) => names,
        Err(error) => return failed(&error),
    };
    let mut data = Vec::with_capacity(names.len());
    for name in names {
        match office.pair(&name).await {
            Ok(Some((chain, _))) => data.extend(described(&name, &chain)),
            Ok(None) => {}
            Err(error) => return failed(&error),
        }
    }
    Answer::json(200, json!({ "data": data, "next": null }))
}

async fn show(env: Env, call: AdminCall) -> Answer {
    let Some(office) = office(&env) else { return Answer::status(404) };
    let name = call.params.first().cloned().unwrap_or_default().to_ascii_lowercase();
    match office.pair(&name).await {
        Ok(Some((chain, _))) => {
            described(&name, &chain).map_or_else(|| Answer::status(404), |data| Answer::json(200, json!({ "data": data })))
        }
        Ok(None) => message(404, format!("Certificate for host {name} not found in storage")),
        Err(error) => failed(&error),
    }
}

fn failed(error: &portcullis_plugin::Error) -> Answer {
    warn!(%error, "certificates cannot be read");
    message(500, "An unexpected error occurred")
}

/// What there is to tell of the first certificate of a chain.
fn described(host: &str, chain: &str) -> Option<Value> {
    let (_, pem) = parse_x509_pem(chain.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let issuer = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
    let kind = match certificate.public_key().algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => "id-ecPublicKey",
        "1.2.840.113549.1.1.1" => "rsaEncryption",
        _ => "unknown",
    };
    Some(json!({
        "host": host,
        "digest": secret::hex(digest::digest(&digest::SHA256, &pem.contents).as_ref()),
        "issuer_cn": issuer,
        "not_before": text(certificate.validity().not_before),
        "not_after": text(certificate.validity().not_after),
        "valid": certificate.validity().is_valid(),
        "serial_number": secret::hex(certificate.raw_serial()),
        "pubkey_type": kind,
    }))
}

/// `2026-01-31 00:01:00`, in UTC.
fn text(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (date, clock) = ((time.year(), u8::from(time.month()), time.day()), (time.hour(), time.minute(), time.second()));
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", date.0, date.1, date.2, clock.0, clock.1, clock.2)
}
