//! A whole entity: its fields, checks, keys and the places it shows up in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::{Check, Field, Record, Violations};

/// What is being done with a record: rules differ in small ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// POST: a new row.
    Insert,
    /// PATCH: the input is merged into `existing` first.
    Update,
    /// PUT: a new row or a full replacement.
    Upsert,
}

/// A field that is accepted in place of others and never stored, e.g. `url` of a service.
#[derive(Clone, Debug)]
pub struct Shorthand {
    pub name: &'static str,
    pub field: Field,
    /// Writes what the shorthand means into the record; a complaint is filed under the shorthand's name.
    pub expand: fn(&Value, &mut Record) -> Result<(), String>,
}

/// A value computed on write from others, after validation: a password's hash, a certificate's digest.
#[derive(Clone, Debug)]
pub struct Transform {
    /// Runs only when one of these fields was given in this write. Empty: on every write.
    pub inputs: &'static [&'static str],
    /// Dotted paths of what it reads beside its inputs: has to be there with them, and changes only together with them.
    pub needs: &'static [&'static str],
    pub apply: fn(&mut Record) -> Result<(), Violations>,
}

impl Transform {
    /// Whether it runs on a write that gives these fields.
    pub(crate) fn is_due(&self, given: &Record) -> bool {
        self.inputs.is_empty() || self.inputs.iter().any(|field| given.contains_key(*field))
    }
}

impl Shorthand {
    /// An older spelling of the field at `path` in the same record. Its value moves there and is shown under both names.
    pub fn moved(name: &'static str, field: Field, path: &[&'static str], message: &'static str) -> Self {
        let deprecation = json!({ "message": message, "removal_in_version": "4.0", "replaced_with": [{ "path": path }] });
        Self { name, field: field.shown("deprecation", deprecation), expand: |_, _| Ok(()) }
    }

    /// Where a moved field went, if this shorthand is no more than a move.
    pub fn moved_to(&self) -> Option<Vec<&str>> {
        let (_, deprecation) = self.field.shown.iter().find(|(name, _)| *name == "deprecation")?;
        let path = deprecation.get("replaced_with")?.get(0)?.get("path")?.as_array()?;
        path.iter().map(Value::as_str).collect()
    }
}

/// A check of a whole record that comes before all others.
pub type Gate = fn(&Record) -> Result<(), Violations>;

/// One entity: a URL, a table and a declarative key in one.
#[derive(Clone, Debug)]
pub struct Schema {
    /// `services`, `keyauth_credentials`: the table and the declarative key.
    pub name: Cow<'static, str>,
    /// The collection in the Admin API, where it isn't `name`: `key-auths`, `key-sets`.
    pub admin_name: Option<&'static str>,
    /// The collection below a parent, where it isn't the admin name: `/consumers/:c/key-auth`.
    pub nested_name: Option<&'static str>,
    /// Field that addresses a row in a URL beside its id.
    pub endpoint_key: Option<&'static str>,
    /// Fields that together are unique and, joined, make Kong's cache key. Empty: the id.
    pub cache_key: &'static [&'static str],
    pub fields: Vec<(Cow<'static, str>, Field)>,
    pub shorthands: Vec<Shorthand>,
    pub checks: Vec<Check>,
    /// What has to be right before anything else is looked at: Kong picks further rules by it, and stops without them.
    pub gate: Option<Gate>,
    /// Brings what is given in line with itself, before it is merged into what is there.
    pub shape: Option<fn(&mut Record)>,
    /// Brings fields in line with each other before defaults are filled in and checks run.
    pub settle: Option<fn(&mut Record)>,
    /// What is computed on write once everything is valid: digests, hashes, normal forms.
    pub transforms: Vec<Transform>,
    /// Rows belong to a workspace (hidden `ws_id`).
    pub workspaceable: bool,
    /// Rows may have a time to live in seconds (`ttl` on write and read).
    pub ttl: bool,
    /// A view: nothing can be written.
    pub read_only: bool,
    /// Served by the Admin API with generated routes.
    pub admin_api: bool,
    /// Written by db_export.
    pub exported: bool,
    /// Name of the field (`name`) whose value picks the schema of the `config` record in [`Catalog`].
    pub config_by: Option<&'static str>,
}

impl Schema {
    /// A schema with these fields and Kong's usual settings.
    pub fn new(name: &'static str, fields: Vec<(&'static str, Field)>) -> Self {
        Self {
            name: Cow::Borrowed(name),
            admin_name: None,
            nested_name: None,
            endpoint_key: None,
            cache_key: &[],
            fields: fields.into_iter().map(|(name, field)| (Cow::Borrowed(name), field)).collect(),
            shorthands: Vec::new(),
            checks: Vec::new(),
            gate: None,
            shape: None,
            settle: None,
            transforms: Vec::new(),
            workspaceable: true,
            ttl: false,
            read_only: false,
            admin_api: true,
            exported: true,
            config_by: None,
        }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, f)| f)
    }

    /// Computes what is computed on write, from all that the record holds.
    pub fn transform(&self, record: &mut Record) -> Result<(), Violations> {
        let given = |record: &Record, field: &str| record.get(field).is_some_and(|value| !value.is_null());
        for transform in &self.transforms {
            if transform.inputs.is_empty() || transform.inputs.iter().any(|field| given(record, field)) {
                (transform.apply)(record)?;
            }
        }
        Ok(())
    }

    /// `(field, entity)` of every reference to another entity.
    pub fn foreigns(&self) -> impl Iterator<Item = (&str, &'static str, crate::OnDelete)> {
        self.fields.iter().filter_map(|(name, field)| match field.kind {
            crate::Kind::Foreign { entity, on_delete } => Some((name.as_ref(), entity, on_delete)),
            _ => None,
        })
    }
}

/// The configuration schema of one plugin (or vault strategy): a subschema of `plugins` (`vaults`).
#[derive(Clone, Debug)]
pub struct ConfigSchema {
    pub name: Cow<'static, str>,
    pub priority: i32,
    pub version: &'static str,
    /// The whole `config` field: a required record with its own checks.
    pub config: Field,
    /// Overrides of the entity's own fields, e.g. `consumer` that must be null, `protocols` limited to HTTP.
    pub overrides: Vec<(&'static str, Field)>,
    pub checks: Vec<Check>,
    /// Shorthands inside `config` (deprecated spellings).
    pub shorthands: Vec<Shorthand>,
}

/// Every entity, plugin and vault schema this node knows.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// In dependency order: a parent stands before its children.
    pub entities: Vec<Arc<Schema>>,
    pub plugins: BTreeMap<String, Arc<ConfigSchema>>,
    pub vaults: BTreeMap<String, Arc<ConfigSchema>>,
}

impl Catalog {
    pub fn entity(&self, name: &str) -> Option<&Arc<Schema>> {
        self.entities.iter().find(|schema| schema.name == name)
    }
}
