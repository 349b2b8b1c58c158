//! What all authenticating plugins share (behaviour checklist 9.0, auth common).
//!
//! An authenticated request carries its consumer to the upstream in headers that clients cannot forge: whatever they sent
//! under these names is taken out whenever an identity is set. A plugin with `anonymous` is one of several ways in: it
//! steps back when another has already authenticated, and lets strangers pass as the anonymous consumer.

use std::sync::Arc;

use portcullis_entities::consumers::Consumer;
use portcullis_plugin::extra_metrics::AuthFailure;
use portcullis_plugin::{Answer, Credential, Error, Headers, Request, Step};
use portcullis_wire::headers::Name;

const CONSUMER_ID: Name = Name::new("X-Consumer-ID");
const CONSUMER_CUSTOM_ID: &str = "X-Consumer-Custom-ID";
const CONSUMER_USERNAME: &str = "X-Consumer-Username";
const CREDENTIAL_IDENTIFIER: &str = "X-Credential-Identifier";
const ANONYMOUS_CONSUMER: &str = "X-Anonymous-Consumer";

/// What a token that was verified says, for plugins that decide by it; stands in the request's context.
pub struct VerifiedClaims(pub serde_json::Map<String, serde_json::Value>);

/// Whether a plugin with this `anonymous` setting has nothing left to do, since another one authenticated the request.
#[inline]
pub fn is_settled(request: &Request, anonymous: Option<&str>) -> bool {
    anonymous.is_some() && request.credential.is_some()
}

/// Makes a consumer and the credential that proved it known to later plugins and to the upstream. `identifier` is how the
/// upstream sees the credential: an id, a user name, a key.
pub fn identify(request: &mut Request, consumer: Option<Arc<Consumer>>, credential: Arc<Credential>, identifier: &[u8]) {
    let headers = &mut request.head.headers;
    forget_identity(headers);
    name_consumer(headers, consumer.as_deref());
    headers.append(CREDENTIAL_IDENTIFIER, identifier);
    request.authenticate(consumer, Some(credential));
}

/// Ends an authentication that failed: as the anonymous consumer if there is one, else with the refusal, whose
/// reason is left to be counted.
pub fn refuse<'a>(request: &mut Request, anonymous: Option<&str>, failure: AuthFailure, refusal: impl FnOnce() -> Answer) -> Step<'a> {
    let Some(anonymous) = anonymous else {
        request.context.set(failure);
        return Step::answer(refusal());
    };
    match request.directory.consumer_named(anonymous) {
        Some(consumer) => {
            let headers = &mut request.head.headers;
            forget_identity(headers);
            name_consumer(headers, Some(&consumer));
            headers.append(ANONYMOUS_CONSUMER, b"true");
            request.authenticate(Some(consumer), None);
            Step::Next
        }
        None => Step::Fail(Error::from(format!("anonymous consumer {anonymous} is unknown"))),
    }
}

/// A `WWW-Authenticate` challenge. The realm is put between quotes as it is.
pub fn challenge(scheme: &str, realm: Option<&str>) -> String {
    match realm {
        Some(realm) => format!("{scheme} realm=\"{realm}\""),
        None => scheme.to_owned(),
    }
}

fn forget_identity(headers: &mut Headers) {
    headers.retain(|name, _| !speaks_of_identity(name));
}

/// One pass over the headers for all five names: most names differ in length from each of them.
fn speaks_of_identity(name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        13 => is(CONSUMER_ID.as_str()),
        19 => is(CONSUMER_USERNAME),
        20 => is(CONSUMER_CUSTOM_ID) || is(ANONYMOUS_CONSUMER),
        23 => is(CREDENTIAL_IDENTIFIER),
        _ => false,
    }
}

fn name_consumer(headers: &mut Headers, consumer: Option<&Consumer>) {
    let Some(consumer) = consumer else { return };
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    headers.append_clean(CONSUMER_ID, consumer.id.hyphenated().encode_lower(&mut text).as_bytes());
    if let Some(custom_id) = &consumer.custom_id {
        headers.append(CONSUMER_CUSTOM_ID, custom_id.as_bytes());
    }
    if let Some(username) = &consumer.username {
        headers.append(CONSUMER_USERNAME, username.as_bytes());
    }
}
