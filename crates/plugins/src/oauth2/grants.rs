//! The two endpoints: `/oauth2/authorize`, where a user's agreement becomes a code or a token, and `/oauth2/token`, where
//! codes, passwords, refresh tokens and clients' own secrets become tokens (RFC 6749, RFC 7636).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_plugin::{Answer, Request, Result, RowsError, Write};
use portcullis_schema::{id_of, random_text};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::client::{Claim, Client};
use super::parameters::{self, Parameters};
use super::token::Token;
use super::{CLIENTS, CODES, Oauth2, TOKENS};
use crate::secret;

/// Seconds for which a code can be turned into a token.
const CODE_TTL: u64 = 300;

/// Why nothing is given out.
pub struct Failure {
    error: &'static str,
    description: String,
    /// The client named itself in a header: it is told which scheme is wanted.
    challenged: bool,
}

impl Failure {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, description: description.into(), challenged: false }
    }

    fn client(by_header: bool) -> Self {
        Self { challenged: by_header, ..Self::new("invalid_client", "Invalid client authentication") }
    }

    fn provision_key() -> Self {
        Self::new("invalid_provision_key", "Invalid provision_key")
    }

    fn redirect_uri() -> Self {
        let text = "Invalid redirect_uri that does not match with any redirect_uri created with the application";
        Self::new("invalid_request", text)
    }

    fn fields(&self) -> Map<String, Value> {
        Map::from_iter([("error".to_owned(), self.error.into()), ("error_description".to_owned(), self.description.as_str().into())])
    }
}

type Granted<T> = std::result::Result<T, Failure>;

/// What a token is made of.
struct Grant {
    user: Option<String>,
    scope: Option<String>,
    refreshable: bool,
    /// Happens together with the token's being written.
    beside: Vec<Write>,
}

impl Oauth2 {
    pub async fn authorize(&self, request: &Request) -> Result<Answer> {
        let parameters = Parameters::of(request);
        let state = parameters.get("state").cloned();
        let user = match self.agreed(request, &parameters) {
            Ok(user) => user,
            Err(failure) => return Ok(answer(400, with_state(failure.fields(), state))),
        };

        // Later complaints go before earlier ones; where a client is known they go to one of its own addresses.
        let kind = parameters.text("response_type");
        let mut failure = match kind {
            Some("code") if self.config.enable_authorization_code => None,
            Some("token") if self.config.enable_implicit_grant => None,
            _ => Some(Failure::new("unsupported_response_type", "Invalid response_type")),
        };
        let scope = self.scope(&parameters).unwrap_or_else(|complaint| {
            failure = Some(complaint);
            None
        });
        let client = parameters.text("client_id").and_then(|id| Client::find(request, id));
        let mut target = None;
        if let Some(uris) = client.as_ref().and_then(Client::redirect_uris) {
            target = uris.first().map(|uri| (*uri).to_owned());
            if let Some(wanted) = parameters.get("redirect_uri") {
                match uris.iter().find(|uri| Some(**uri) == wanted.as_str()) {
                    Some(uri) => target = Some((*uri).to_owned()),
                    None => failure = Some(Failure::redirect_uri()),
                }
            }
        } else {
            failure = Some(Failure::client(false));
        }
        let challenge = challenge(&parameters).unwrap_or_else(|complaint| {
            failure = Some(complaint);
            // There was one, so none is missed.
            Some(String::new())
        });
        if challenge.is_none()
            && let Some(client) = client.as_ref().filter(|client| self.wants_proof(client))
        {
            let complaint = match client.is_public() {
                true => "code_challenge is required for public clients",
                false => "code_challenge is required for confidential clients",
            };
            failure = Some(Failure::new("invalid_request", complaint));
        }

        let client = match (failure, client) {
            (Some(failure), _) => return Ok(redirect(target, with_state(failure.fields(), state), 400, false)),
            (None, Some(client)) => client,
            (None, None) => return Ok(redirect(target, with_state(Failure::client(false).fields(), state), 400, false)),
        };
        if kind == Some("token") {
            let grant = Grant { user: Some(user), scope, refreshable: false, beside: Vec::new() };
            let token = self.give(request, &client, grant).await?;
            return Ok(redirect(target, with_state(token, state), 200, true));
        }
        let row = json!({
            "service": self.service(request).map(reference),
            "credential": reference(client.row.id),
            "authenticated_userid": user,
            "scope": scope,
            "challenge_method": challenge.as_ref().map(|_| "S256"),
            "challenge": challenge,
            "plugin": reference(self.instance),
            "ttl": CODE_TTL,
        });
        let rows = self.rows.write(vec![Write::Insert { entity: CODES, row: record(row) }]).await?;
        let code = rows.first().and_then(|row| row.get("code")).cloned().unwrap_or_default();
        Ok(redirect(target, with_state(Map::from_iter([("code".to_owned(), code)]), state), 200, false))
    }

    /// The user that whoever holds the provision key vouches for.
    fn agreed(&self, request: &Request, parameters: &Parameters) -> Granted<String> {
        self.check_https(request)?;
        self.check_provision_key(parameters)?;
        user_of(parameters)
    }

    pub async fn issue_token(&self, request: &Request) -> Result<Answer> {
        let parameters = Parameters::of(request);
        let state = parameters.get("state").cloned();
        match self.granted(request, &parameters).await? {
            Ok(token) => Ok(answer(200, with_state(token, state))),
            Err(failure) if failure.challenged => {
                let refusal = answer(401, with_state(failure.fields(), state));
                Ok(refusal.header("WWW-Authenticate", "Basic realm=\"OAuth2.0\""))
            }
            Err(failure) => Ok(answer(400, with_state(failure.fields(), state))),
        }
    }

    async fn granted(&self, request: &Request, parameters: &Parameters) -> Result<Granted<Map<String, Value>>> {
        let client = match self.client(request, parameters).await {
            Ok(client) => client,
            Err(failure) => return Ok(Err(failure)),
        };
        let grant = match parameters.text("grant_type") {
            Some("authorization_code") => self.by_code(request, parameters, &client).await?,
            Some("client_credentials") => self.by_client(parameters),
            Some("password") => self.by_password(parameters),
            _ => return self.by_refresh_token(request, parameters, &client).await,
        };
        let grant = match grant {
            Ok(grant) => grant,
            Err(failure) => return Ok(Err(failure)),
        };
        let by_code = !grant.beside.is_empty();
        match self.give(request, &client, grant).await {
            Ok(token) => Ok(Ok(token)),
            // Somebody else was quicker with the same code.
            Err(RowsError::Refused(_)) if by_code => Ok(Err(Failure::new("invalid_request", "Invalid code"))),
            Err(error) => Err(error.into()),
        }
    }

    /// The client that asks, if it may ask for this and proved who it is.
    async fn client(&self, request: &Request, parameters: &Parameters) -> Granted<Client> {
        self.check_https(request)?;
        let grant = parameters.text("grant_type");
        let mut failure = match grant {
            Some("authorization_code" | "refresh_token") => None,
            Some("client_credentials") if self.config.enable_client_credentials => None,
            Some("password") if self.config.enable_password_grant => None,
            _ => Some(Failure::new("unsupported_grant_type", "Invalid grant_type")),
        };
        let claim = Claim::of(request, parameters, &self.header);
        let client = claim.id.as_deref().and_then(|id| Client::find(request, id));
        if grant != Some("client_credentials") {
            match client.as_ref().and_then(Client::redirect_uris) {
                Some(uris) => {
                    let wanted = parameters.get("redirect_uri");
                    let fits = wanted.map_or(!uris.is_empty(), |wanted| uris.iter().any(|uri| Some(*uri) == wanted.as_str()));
                    if !fits {
                        failure = Some(Failure::redirect_uri());
                    }
                }
                None => failure = Some(Failure::client(claim.by_header)),
            }
        }
        let Some(client) = client else { return Err(failure.unwrap_or_else(|| Failure::client(false))) };
        if client.is_public() {
            if claim.secret.as_deref().is_some_and(|secret| !secret.trim().is_empty()) {
                failure = Some(Failure::new("invalid_request", "client_secret is disallowed for public clients"));
            }
        } else if !self.knows_secret(&client, claim.secret).await {
            failure = Some(Failure::client(claim.by_header));
        }
        failure.map_or(Ok(client), Err)
    }

    async fn knows_secret(&self, client: &Client, given: Option<String>) -> bool {
        let (Some(kept), Some(given)) = (client.secret(), given) else { return false };
        if let super::client::Secret::Plain(_) = kept {
            return kept.is(&given);
        }
        let outdated = kept.is_outdated();
        let checked = self.runtime.spawn_blocking(move || (kept.is(&given), given)).await;
        let Ok((true, given)) = checked else { return false };
        if outdated {
            let fields = record(json!({ "client_secret": given, "hash_secret": true }));
            let write = Write::Update { entity: CLIENTS, id: client.row.id, fields };
            if let Err(error) = self.rows.write(vec![write]).await {
                tracing::warn!(%error, client = %client.row.id, "the secret of a client could not be hashed anew");
            }
        }
        true
    }

    fn by_client(&self, parameters: &Parameters) -> Granted<Grant> {
        // A client that speaks for a user has to know the provision key, one that speaks for itself does not.
        if parameters.get("authenticated_userid").is_some() {
            self.check_provision_key(parameters)?;
        }
        let user = parameters.text("authenticated_userid").map(str::to_owned);
        Ok(Grant { user, scope: self.scope(parameters)?, refreshable: false, beside: Vec::new() })
    }

    fn by_password(&self, parameters: &Parameters) -> Granted<Grant> {
        self.check_provision_key(parameters)?;
        let user = Some(user_of(parameters)?);
        Ok(Grant { user, scope: self.scope(parameters)?, refreshable: true, beside: Vec::new() })
    }

    async fn by_code(&self, request: &Request, parameters: &Parameters, client: &Client) -> Result<Granted<Grant>> {
        let invalid = || Failure::new("invalid_request", "Invalid code");
        let Some(code) = parameters.text("code") else { return Ok(Err(invalid())) };
        let Some(row) = self.rows.find(CODES, "code", code).await? else { return Ok(Err(invalid())) };
        let service = self.service(request);
        let of = |field: &str| referenced(&row, field);
        let (Some(id), Some(owner)) = (id_of(&row), of("credential")) else { return Ok(Err(invalid())) };
        let elsewhere = service.is_some() && of("service") != service || of("plugin").is_some_and(|plugin| plugin != self.instance);
        if elsewhere || owner != client.row.id {
            return Ok(Err(invalid()));
        }
        let text = |field: &str| row.get(field).and_then(Value::as_str).map(str::to_owned);
        if (text("challenge_method").is_some() || self.wants_proof(client))
            && let Err(failure) = proven(parameters, text("challenge").as_deref())
        {
            return Ok(Err(failure));
        }
        let beside = vec![Write::Take { entity: CODES, id }];
        Ok(Ok(Grant { user: text("authenticated_userid"), scope: text("scope"), refreshable: true, beside }))
    }

    async fn by_refresh_token(&self, request: &Request, parameters: &Parameters, client: &Client) -> Result<Granted<Map<String, Value>>> {
        let invalid = || Failure::new("invalid_request", "Invalid refresh_token");
        let Some(given) = parameters.text("refresh_token") else { return Ok(Err(invalid())) };
        let row = self.rows.find(TOKENS, "refresh_token", given).await?;
        let Some(token) = row.as_ref().and_then(Token::of) else { return Ok(Err(invalid())) };
        let service = self.service(request);
        if service.is_some() && token.service != service {
            return Ok(Err(invalid()));
        }
        if token.credential != client.row.id {
            return Ok(Err(Failure::client(false)));
        }
        if let (Some(allowed), Some(scope)) = (&self.config.scopes, token.scope)
            && !scope.split_whitespace().all(|scope| allowed.iter().any(|allowed| allowed == scope))
        {
            return Ok(Err(Failure::new("invalid_scope", "Scope mismatch")));
        }
        let written = if self.config.reuse_refresh_token {
            let fields = json!({
                "access_token": random_text(),
                "expires_in": self.expires_in(),
                "created_at": request.started_at_ms / 1000,
            });
            let update = Write::Update { entity: TOKENS, id: token.id, fields: record(fields) };
            self.rows.write(vec![update]).await.map(|rows| self.response(rows.first()))
        } else {
            let beside = vec![Write::Take { entity: TOKENS, id: token.id }];
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let grant = Grant { user: owned(token.user), scope: owned(token.scope), refreshable: true, beside };
            self.give(request, client, grant).await
        };
        match written {
            Ok(token) => Ok(Ok(token)),
            // Somebody else was quicker with the same token.
            Err(RowsError::Refused(_)) => Ok(Err(invalid())),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a new token and tells what the client is told of it.
    async fn give(&self, request: &Request, client: &Client, grant: Grant) -> std::result::Result<Map<String, Value>, RowsError> {
        let expires_in = self.expires_in();
        // The row goes when nothing can be done with it any more: when its refresh token ends.
        let ttl = Some(self.config.refresh_token_ttl as u64).filter(|ttl| *ttl > 0 && expires_in > 0);
        let row = json!({
            "service": self.service(request).map(reference),
            "credential": reference(client.row.id),
            "authenticated_userid": grant.user,
            "scope": grant.scope,
            "expires_in": expires_in,
            "refresh_token": (grant.refreshable && expires_in > 0).then(random_text),
            "ttl": ttl,
        });
        let mut writes = grant.beside;
        writes.push(Write::Insert { entity: TOKENS, row: record(row) });
        let rows = self.rows.write(writes).await?;
        Ok(self.response(rows.first()))
    }

    fn response(&self, row: Option<&Map<String, Value>>) -> Map<String, Value> {
        let field = |name: &str| row.and_then(|row| row.get(name)).filter(|value| !value.is_null()).cloned();
        let mut response = Map::from_iter([("token_type".to_owned(), "bearer".into())]);
        for name in ["access_token", "refresh_token"] {
            response.extend(field(name).map(|value| (name.to_owned(), value)));
        }
        if self.expires_in() > 0 {
            response.extend(field("expires_in").map(|value| ("expires_in".to_owned(), value)));
        }
        response
    }

    /// Whole seconds; 0 for ever.
    fn expires_in(&self) -> u64 {
        self.config.token_expiration.max(0.0).ceil() as u64
    }

    /// The service that codes and tokens are good for; none means all.
    pub fn service(&self, request: &Request) -> Option<Uuid> {
        if self.config.global_credentials { None } else { request.service.as_ref().map(|service| service.id) }
    }

    fn check_https(&self, request: &Request) -> Granted<()> {
        let denied = |text: &str| Err(Failure::new("access_denied", text));
        if request.client.https {
            return Ok(());
        }
        if !self.config.accept_http_if_already_terminated || !request.client.trusted {
            return denied("You must use HTTPS");
        }
        let mut told = request.head.headers.get_all("X-Forwarded-Proto");
        match (told.next(), told.next()) {
            (_, Some(_)) => denied("Only one X-Forwarded-Proto header allowed"),
            (Some(protocol), None) if protocol.eq_ignore_ascii_case(b"https") => Ok(()),
            _ => denied("You must use HTTPS"),
        }
    }

    fn check_provision_key(&self, parameters: &Parameters) -> Granted<()> {
        let given = parameters.text("provision_key").unwrap_or_default();
        if secret::same(given.as_bytes(), self.config.provision_key.as_bytes()) { Ok(()) } else { Err(Failure::provision_key()) }
    }

    /// The scopes asked for, if the instance knows them all.
    fn scope(&self, parameters: &Parameters) -> Granted<Option<String>> {
        let wanted = parameters.get("scope");
        match (&self.config.scopes, wanted) {
            (Some(allowed), Some(wanted)) => {
                let wanted = wanted.as_str().ok_or_else(|| Failure::new("invalid_scope", "scope must be a string"))?;
                if let Some(unknown) = wanted.split_ascii_whitespace().find(|scope| !allowed.iter().any(|allowed| allowed == scope)) {
                    return Err(Failure::new("invalid_scope", format!("\"{unknown}\" is an invalid scope")));
                }
                let scopes: Vec<&str> = wanted.split_ascii_whitespace().collect();
                Ok((!scopes.is_empty()).then(|| scopes.join(" ")))
            }
            (_, None) if self.config.mandatory_scope => Err(Failure::new("invalid_scope", "You must specify a scope")),
            _ => Ok(None),
        }
    }

    /// Whether this client has to prove that a code was given to it, even if it announced no proof.
    fn wants_proof(&self, client: &Client) -> bool {
        match self.config.pkce.as_deref() {
            Some("none") => false,
            Some("strict") => true,
            _ => client.is_public(),
        }
    }
}

fn user_of(parameters: &Parameters) -> Granted<String> {
    match parameters.text("authenticated_userid") {
        Some(user) if !user.trim().is_empty() => Ok(user.to_owned()),
        _ => Err(Failure::new("invalid_authenticated_userid", "Missing authenticated_userid parameter")),
    }
}

/// What a client will prove to know, in base64url without padding.
fn challenge(parameters: &Parameters) -> Granted<Option<String>> {
    let invalid = |text: &str| Err(Failure::new("invalid_request", text));
    let method = parameters.get("code_challenge_method");
    let Some(challenge) = parameters.get("code_challenge") else {
        return if method.is_some() { invalid("code_challenge is required when code_method is present") } else { Ok(None) };
    };
    if method.is_some_and(|method| !matches!(method.as_str(), Some("S256" | "s256"))) {
        return invalid("code_challenge_method is not supported, must be S256");
    }
    let challenge = challenge.as_str().unwrap_or_default();
    let bytes = secret::base64_url(challenge.as_bytes());
    Ok(Some(bytes.map_or_else(|| challenge.to_owned(), |bytes| URL_SAFE_NO_PAD.encode(bytes))))
}

/// Whether the client knows what its code's challenge is the hash of.
fn proven(parameters: &Parameters, challenge: Option<&str>) -> Granted<()> {
    let invalid = |text: &str| Err(Failure::new("invalid_request", text));
    let Some(verifier) = parameters.get("code_verifier") else {
        return invalid("code_verifier is required for PKCE authorization requests");
    };
    let Some(verifier) = verifier.as_str() else { return invalid("code_verifier is not a string") };
    if !(43..=128).contains(&verifier.len()) {
        return invalid("code_verifier must be between 43 and 128 characters");
    }
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    match challenge {
        Some(challenge) if secret::same(challenge.as_bytes(), hash.as_bytes()) => Ok(()),
        _ => Err(Failure::new("invalid_grant", "Invalid code")),
    }
}

fn with_state(mut fields: Map<String, Value>, state: Option<Value>) -> Map<String, Value> {
    fields.extend(state.map(|state| ("state".to_owned(), state)));
    fields
}

fn answer(status: u16, fields: Map<String, Value>) -> Answer {
    Answer::json(status, Value::Object(fields)).header("Cache-Control", "no-store").header("Pragma", "no-cache")
}

/// Tells where to send the user, with these fields in the address's query or fragment; without an address just the fields.
fn redirect(target: Option<String>, fields: Map<String, Value>, status: u16, in_fragment: bool) -> Answer {
    let Some(target) = target else { return answer(status, fields) };
    let target = target.split('#').next().unwrap_or_default();
    let uri = if in_fragment {
        format!("{target}#{}", parameters::encode(&fields))
    } else {
        let (address, query) = target.split_once('?').unwrap_or((target, ""));
        let mut arguments = match crate::body::arguments_value(query.as_bytes()) {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        };
        arguments.extend(fields);
        format!("{address}?{}", parameters::encode(&arguments))
    };
    answer(status, Map::from_iter([("redirect_uri".to_owned(), uri.into())]))
}

fn reference(id: Uuid) -> Value {
    json!({ "id": id })
}

fn referenced(row: &Map<String, Value>, field: &str) -> Option<Uuid> {
    row.get(field)?.get("id")?.as_str().and_then(|id| Uuid::try_parse(id).ok())
}

fn record(value: Value) -> Map<String, Value> {
    match value {
        // What is not there is left to the schema's defaults.
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}
