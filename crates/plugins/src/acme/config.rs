//! What users set.

use portcullis_schema::{Field, Fields, Shorthand, build};
use serde::Deserialize;
use serde_json::Value;

use crate::stores::STORES;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The address the account is known by.
    #[field(string().required().matches("%w*%p*@+%w*%.?%w*", r"[0-9A-Za-z]*[[:punct:]]*@+[0-9A-Za-z]*\.?[0-9A-Za-z]*").encrypted().referenceable())]
    pub account_email: String,
    /// The private key of the account; without one a key is made.
    #[field(record::<AccountKey>().shown("required", false))]
    pub account_key: Option<AccountKey>,
    /// The directory of the authority's API.
    #[field(url().default("https://acme-v02.api.letsencrypt.org/directory"))]
    pub api_uri: Option<String>,
    /// Whether the authority's terms of service are accepted.
    #[field(boolean().default(false))]
    pub tos_accepted: Option<bool>,
    /// The id of the key that binds the account to one outside of ACME.
    #[field(string().encrypted().referenceable())]
    pub eab_kid: Option<String>,
    /// That key, in base64 for URLs.
    #[field(string().encrypted().referenceable())]
    pub eab_hmac_key: Option<String>,
    /// The kind of key certificates are for.
    #[field(string().default("rsa").one_of(["rsa", "ecc"]))]
    pub cert_type: Option<String>,
    /// The length of RSA keys, in bits.
    #[field(number().default(4096).one_of([2048, 3072, 4096]))]
    pub rsa_key_size: Option<f64>,
    /// Days before its end at which a certificate is renewed.
    #[field(number().default(14))]
    pub renew_threshold_days: Option<f64>,
    /// The names certificates are asked for.
    #[field(array(host_with_wildcard()))]
    pub domains: Option<Vec<String>>,
    /// Whether certificates are asked for whatever name a client asks for.
    #[field(boolean().default(false))]
    pub allow_any_domain: Option<bool>,
    /// Minutes to wait after an order that failed.
    #[field(number().default(5))]
    pub fail_backoff_minutes: Option<f64>,
    /// Where certificates and keys are kept.
    #[field(string().default("shm").one_of(["kong", "shm", "redis", "consul", "vault"]))]
    pub storage: Option<String>,
    /// Settings of the places they can be kept in.
    #[field(record::<StorageConfig>().required())]
    pub storage_config: StorageConfig,
    /// The issuer whose chain is wanted where the authority offers several.
    #[field(string())]
    pub preferred_chain: Option<String>,
    /// Whether an IPv4 address may be asked for as a common name.
    #[field(boolean().default(true))]
    pub enable_ipv4_common_name: Option<bool>,
}

/// The private key of the account; without one a key is made.
#[derive(Debug, Deserialize, Fields)]
pub struct AccountKey {
    /// The id of the key.
    #[field(string().required())]
    pub key_id: String,
    /// The name of the set it is in.
    #[field(string())]
    pub key_set: Option<String>,
}

/// Memory of this node.
#[derive(Debug, Deserialize, Fields)]
pub struct Shm {
    /// The name of the store.
    #[field(string().default("kong").custom(check_store))]
    pub shm_name: Option<String>,
}

/// The database.
#[derive(Debug, Deserialize, Fields)]
pub struct Kong {}

/// How keys are named and found.
#[derive(Debug, Deserialize, Fields)]
pub struct ExtraOptions {
    /// What the name of every key begins with.
    #[field(namespace().required().default(""))]
    pub namespace: String,
    /// Keys asked for at once when all are listed.
    #[field(number().shown("required", false).default(10))]
    pub scan_count: Option<f64>,
}

/// A Redis server.
#[derive(Debug, Deserialize, Fields)]
pub struct Redis {
    /// Host name or address.
    #[field(host())]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(6379))]
    pub port: Option<u16>,
    /// Milliseconds to wait for the server.
    #[field(timeout().default(2000))]
    pub timeout: Option<u64>,
    /// The user to log in as.
    #[field(string().referenceable())]
    pub username: Option<String>,
    /// The password to log in with.
    #[field(string().encrypted().len_min(0).referenceable())]
    pub password: Option<String>,
    /// The number of the database.
    #[field(integer().default(0))]
    pub database: Option<i64>,
    /// Whether the connection is TLS.
    #[field(boolean().shown("required", false).default(false))]
    pub ssl: Option<bool>,
    /// Whether the server's certificate is checked.
    #[field(boolean().shown("required", false).default(false))]
    pub ssl_verify: Option<bool>,
    /// The server name of the TLS handshake.
    #[field(sni().shown("required", false))]
    pub server_name: Option<String>,
    /// How keys are named and found.
    #[field(record::<ExtraOptions>().required())]
    pub extra_options: ExtraOptions,
}

/// A Consul server.
#[derive(Debug, Deserialize, Fields)]
pub struct Consul {
    /// Whether the connection is TLS.
    #[field(boolean().default(false))]
    pub https: Option<bool>,
    /// Host name or address.
    #[field(host())]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port())]
    pub port: Option<u16>,
    /// The path that keys lie under.
    #[field(string())]
    pub kv_path: Option<String>,
    /// Milliseconds to wait for the server.
    #[field(number())]
    pub timeout: Option<f64>,
    /// The token to log in with.
    #[field(string().referenceable())]
    pub token: Option<String>,
}

/// A Vault server.
#[derive(Debug, Deserialize, Fields)]
pub struct Vault {
    /// Whether the connection is TLS.
    #[field(boolean().default(false))]
    pub https: Option<bool>,
    /// Host name or address.
    #[field(host())]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port())]
    pub port: Option<u16>,
    /// The path that keys lie under.
    #[field(string())]
    pub kv_path: Option<String>,
    /// Milliseconds to wait for the server.
    #[field(number())]
    pub timeout: Option<f64>,
    /// The token to log in with.
    #[field(string().referenceable())]
    pub token: Option<String>,
    /// Whether the server's certificate is checked.
    #[field(boolean().default(true))]
    pub tls_verify: Option<bool>,
    /// The server name of the TLS handshake.
    #[field(string())]
    pub tls_server_name: Option<String>,
    /// How to log in.
    #[field(string().default("token").one_of(["token", "kubernetes"]))]
    pub auth_method: Option<String>,
    /// The path of the login.
    #[field(string())]
    pub auth_path: Option<String>,
    /// The role to log in for.
    #[field(string())]
    pub auth_role: Option<String>,
    /// The file that holds the token of the Kubernetes account.
    #[field(string())]
    pub jwt_path: Option<String>,
}

/// Settings of the places they can be kept in.
#[derive(Debug, Deserialize, Fields)]
pub struct StorageConfig {
    /// Memory of this node.
    #[field(record::<Shm>().required())]
    pub shm: Shm,
    /// The database.
    #[field(record::<Kong>().required().shown("fields", [(); 0]))]
    pub kong: Kong,
    /// A Redis server.
    #[field(record::<Redis>().shorthands(flat_spellings()).required())]
    pub redis: Redis,
    /// A Consul server.
    #[field(record::<Consul>().required())]
    pub consul: Consul,
    /// A Vault server.
    #[field(record::<Vault>().required())]
    pub vault: Vault,
}

/// What no namespace may begin with: the names of the plugin's own keys begin so.
const RESERVED: [&str; 3] = ["kong_acme:renew_config:", "kong_acme:renew_last_run", "kong_acme:cert_key:"];

fn namespace() -> Field {
    build::string().len_min(0).custom(|value| {
        let text = value.as_str().unwrap_or_default();
        let reserved = RESERVED.into_iter().find(|reserved| text.starts_with(reserved));
        reserved.map_or(Ok(()), |reserved| Err(format!("namespace can't be prefixed with reserved word: {reserved}")))
    })
}

fn check_store(value: &Value) -> Result<(), String> {
    let name = value.as_str().unwrap_or_default();
    if STORES.contains(&name) { Ok(()) } else { Err(format!("failed validating: {name}")) }
}

/// The older spellings of Redis settings.
fn flat_spellings() -> Vec<Shorthand> {
    use portcullis_schema::build::{integer, string};
    macro_rules! moved {
        ($name:literal, $path:expr, $new:literal, $field:expr) => {
            Shorthand::moved(
                $name,
                $field,
                $path,
                concat!(
                    "acme: config.storage_config.redis.",
                    $name,
                    " is deprecated, please use config.storage_config.redis.",
                    $new,
                    " instead"
                ),
            )
        };
    }
    vec![
        moved!("auth", &["password"], "password", string().len_min(0)),
        moved!("ssl_server_name", &["server_name"], "server_name", string()),
        moved!("namespace", &["extra_options", "namespace"], "extra_options.namespace", namespace()),
        moved!("scan_count", &["extra_options", "scan_count"], "extra_options.scan_count", integer()),
    ]
}
