//! ldap-auth: who a request is from, by a user and password that an LDAP server knows.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Check, Rule};

use config::Config;

/// See the module's description.
pub struct LdapAuth;

impl Plugin for LdapAuth {
    const NAME: &'static str = "ldap-auth";
    const PRIORITY: i32 = 1200;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }

    fn config_checks() -> Vec<Check> {
        vec![Check::Conditional {
            if_field: "ldaps",
            if_match: vec![Rule::Eq(true.into())],
            then_field: "start_tls",
            then_match: vec![Rule::Eq(false.into())],
            then_required: false,
            then_error: Some("'ldaps' and 'start_tls' cannot be enabled simultaneously"),
        }]
    }
}

impl Handler for LdapAuth {}
