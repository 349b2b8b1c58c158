//! How a plugin is declared and listed.

use std::sync::Arc;

use portcullis_schema::{Check, ConfigSchema, Field, Fields, Schema, Shorthand, build};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::{Endpoint, Env, Error, Handler, Index, Request, Result, Step};

/// The phases a plugin has code for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    pub const NONE: Phases = Phases(0);
    pub const REWRITE: Phases = Phases(1);
    pub const ACCESS: Phases = Phases(2);
    pub const RESPONSE: Phases = Phases(4);
    pub const HEADER_FILTER: Phases = Phases(8);
    pub const BODY_FILTER: Phases = Phases(16);
    pub const LOG: Phases = Phases(32);
    pub const ALL: Phases = Phases(63);

    pub const fn and(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }

    /// The phases in both.
    pub const fn within(self, other: Phases) -> Phases {
        Phases(self.0 & other.0)
    }

    pub const fn has(self, other: Phases) -> bool {
        self.0 & other.0 != 0
    }
}

/// What an instance may be attached to, and for which protocols (behaviour checklist 8.4).
#[derive(Clone, Copy, Debug)]
pub struct Scopes {
    pub consumer: bool,
    pub route: bool,
    pub service: bool,
    pub protocols: Protocols,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// Any protocol may be named; HTTP's four are the default.
    Any,
    /// Only HTTP's four.
    HttpOnly,
    /// Any of these; they are also the default.
    These(&'static [&'static str]),
    /// Any protocol may be named; these are the default.
    AnyDefault(&'static [&'static str]),
}

impl Scopes {
    pub const ANY: Scopes = Scopes { consumer: true, route: true, service: true, protocols: Protocols::Any };
    pub const HTTP: Scopes = Scopes { protocols: Protocols::HttpOnly, ..Scopes::ANY };
    pub const HTTP_NO_CONSUMER: Scopes = Scopes { consumer: false, ..Scopes::HTTP };
}

/// The text in which metrics are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
}

/// Which configured instance a handler is made for.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    pub id: Uuid,
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
    pub consumer: Option<Uuid>,
}

/// A plugin: its name, order, configuration and how a handler is made of them.
pub trait Plugin: Handler + Sized {
    const NAME: &'static str;
    /// Higher runs earlier; equal priorities run in reverse alphabetical order of name.
    const PRIORITY: i32;
    const PHASES: Phases;
    const SCOPES: Scopes = Scopes::ANY;
    type Config: Fields + DeserializeOwned;
    /// False while only the configuration is there: instances can be made and kept, and every request through one is answered
    /// with 500 and a line in the log, so that nothing a user configured is silently left out.
    const READY: bool = true;

    /// Choices that need a database: fields of `config` and the value that is none of theirs without one.
    const NEED_DATABASE: &'static [(&'static str, &'static str)] = &[];

    /// Makes a handler of a checked configuration: regexes compiled, networks parsed, once per configuration change.
    fn new(config: Self::Config, instance: &Instance, env: &Env) -> Result<Self>;

    /// Rules that span several fields of `config`; paths start at the plugin (`config.minute`).
    fn checks() -> Vec<Check> {
        Vec::new()
    }

    /// Rules over several fields that belong to the record `config` itself; paths start inside it (`model.provider`).
    fn config_checks() -> Vec<Check> {
        Vec::new()
    }

    /// Deprecated spellings inside `config`.
    fn shorthands() -> Vec<Shorthand> {
        Vec::new()
    }

    /// Tables of the plugin's own.
    fn entities() -> Vec<Schema> {
        Vec::new()
    }

    /// Which of them the snapshot keeps for look-ups.
    const INDEXES: &'static [Index] = &[];

    /// What the plugin adds to the Admin API.
    fn endpoints() -> Vec<Endpoint> {
        Vec::new()
    }

    /// What `GET /metrics` answers, if this plugin is the one that does.
    const METRICS: Option<fn(&Env, Exposition) -> String> = None;
}

/// Makes a handler of a checked configuration.
pub type Maker = dyn Fn(Value, &Instance, &Env) -> Result<Arc<dyn Handler>> + Send + Sync;

/// A plugin with its types erased: what the list of plugins is made of.
#[derive(Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub priority: i32,
    pub phases: Phases,
    pub schema: &'static (dyn Fn() -> ConfigSchema + Send + Sync),
    pub entities: &'static (dyn Fn() -> Vec<Schema> + Send + Sync),
    pub indexes: &'static [Index],
    pub make: &'static Maker,
    pub metrics: Option<fn(&Env, Exposition) -> String>,
    pub endpoints: fn() -> Vec<Endpoint>,
    /// The plugin may be used for connections without HTTP.
    pub streams: bool,
    /// See [`Plugin::NEED_DATABASE`].
    pub need_database: &'static [(&'static str, &'static str)],
    /// See [`Plugin::READY`].
    pub ready: bool,
}

impl Entry {
    pub const fn of<P: Plugin>() -> Self {
        Self {
            name: P::NAME,
            priority: P::PRIORITY,
            phases: if P::READY { P::PHASES } else { Phases::ACCESS },
            schema: &schema_of::<P>,
            entities: &P::entities,
            indexes: P::INDEXES,
            make: &make::<P>,
            metrics: P::METRICS,
            endpoints: P::endpoints,
            streams: !matches!(P::SCOPES.protocols, Protocols::HttpOnly),
            need_database: P::NEED_DATABASE,
            ready: P::READY,
        }
    }
}

fn make<P: Plugin>(config: Value, instance: &Instance, env: &Env) -> Result<Arc<dyn Handler>> {
    let config = serde_json::from_value(config).map_err(|error| Error::from(format!("configuration of {}: {error}", P::NAME)))?;
    if !P::READY {
        return Ok(Arc::new(Unready(P::NAME)));
    }
    Ok(Arc::new(P::new(config, instance, env)?))
}

/// Stands in for a plugin of which only the configuration is there.
struct Unready(&'static str);

impl Handler for Unready {
    fn access<'a>(&'a self, _: &'a mut Request) -> Step<'a> {
        Step::Fail(format!("plugin {} has no handler in this version: remove or disable its instance", self.0).into())
    }
}

fn schema_of<P: Plugin>() -> ConfigSchema {
    let scopes = P::SCOPES;
    let mut overrides: Vec<(&'static str, Field)> = Vec::new();
    for (name, entity, allowed) in
        [("consumer", "consumers", scopes.consumer), ("route", "routes", scopes.route), ("service", "services", scopes.service)]
    {
        if !allowed {
            overrides.push((name, build::foreign(entity).eq(Value::Null)));
        }
    }
    const HTTP: &[&str] = &["grpc", "grpcs", "http", "https"];
    match scopes.protocols {
        Protocols::Any => overrides.push(("protocols", build::protocols())),
        Protocols::HttpOnly => overrides.push(("protocols", build::set(build::string().required().one_of(HTTP)).required().default(HTTP))),
        Protocols::AnyDefault(list) => overrides.push(("protocols", build::set(build::protocol()).required().default(list))),
        Protocols::These(list) => {
            overrides.push(("protocols", build::set(build::string().required().one_of(list)).required().default(list)))
        }
    }
    ConfigSchema {
        name: P::NAME.into(),
        priority: P::PRIORITY,
        version: "3.9.3",
        config: build::record::<P::Config>().required().checks(P::config_checks()),
        overrides,
        checks: P::checks(),
        shorthands: P::shorthands(),
    }
}
