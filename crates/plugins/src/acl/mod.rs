//! acl: lets consumers in, or keeps them out, by the groups they belong to.
//!
//! Groups are the consumer's own rows, or those an authentication against something else brought along
//! (`authenticated_groups`): the latter count when there is no consumer, when nobody proved to be the consumer (anonymous),
//! and always if the configuration says so.

use std::sync::Arc;

use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{Answer, Credential, Env, Handler, Index, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Fields, Schema};
use serde::Deserialize;

const ENTITY: &str = "acls";

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Groups that may pass; everybody else is refused.
    #[field(array(string()))]
    pub allow: Option<Vec<String>>,
    /// Groups that are refused; everybody else may pass.
    #[field(array(string()))]
    pub deny: Option<Vec<String>>,
    /// Whether the upstream is spared the header that lists the groups.
    #[field(boolean().required().default(false))]
    pub hide_groups_header: bool,
    /// Whether groups that came with the authentication go before the consumer's own.
    #[field(boolean().required().default(false))]
    pub always_use_authenticated_groups: bool,
}

/// A consumer's membership in a group.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows; requests see them as `Credential`")]
struct Membership {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// Who belongs to the group.
    #[field(foreign_cascade("consumers").required())]
    consumer: uuid::Uuid,
    /// The group's name.
    #[field(string().required())]
    group: String,
    /// Labels to filter by.
    #[field(tags())]
    tags: Vec<String>,
}

/// See the module's description.
pub struct Acl {
    /// Sorted.
    groups: Vec<Box<str>>,
    denies: bool,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
}

/// The groups a request has.
enum Groups {
    OfConsumer(Vec<Arc<Credential>>),
    Authenticated,
}

impl Plugin for Acl {
    const NAME: &'static str = "acl";
    const PRIORITY: i32 = 950;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "group", by_key: false, by_consumer: true, keep_fields: false }];
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let deny = config.deny.unwrap_or_default();
        let denies = !deny.is_empty();
        let named = if denies { deny } else { config.allow.unwrap_or_default() };
        let mut groups: Vec<Box<str>> = named.into_iter().map(String::into_boxed_str).collect();
        groups.sort_unstable();
        Ok(Self {
            groups,
            denies,
            hide_groups_header: config.hide_groups_header,
            always_use_authenticated_groups: config.always_use_authenticated_groups,
        })
    }

    fn checks() -> Vec<Check> {
        let lists = || vec!["config.allow", "config.deny"];
        vec![Check::OnlyOneOf(lists()), Check::AtLeastOneOf(lists())]
    }

    fn entities() -> Vec<Schema> {
        vec![Schema { endpoint_key: Some("group"), cache_key: &["consumer", "group"], ..Schema::new(ENTITY, Membership::fields()) }]
    }
}

impl Handler for Acl {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let proven = request.credential.is_some();
        let consumer = request.consumer.as_ref().map(|consumer| consumer.id);
        let consumer = consumer.or_else(|| request.credential.as_ref().and_then(|credential| credential.consumer));
        let brought = request.authenticated_groups.is_some();

        let groups = match consumer {
            None if brought => Groups::Authenticated,
            None => return refuse(request, proven),
            Some(_) if brought && (!proven || self.always_use_authenticated_groups) => Groups::Authenticated,
            Some(id) => {
                let groups = request.directory.credentials_of(ENTITY, id);
                if groups.is_empty() && !self.denies {
                    return refuse(request, proven);
                }
                Groups::OfConsumer(groups)
            }
        };
        let (named, header) = match &groups {
            Groups::OfConsumer(rows) => (rows.iter().any(|row| self.names(&row.key)), "X-Consumer-Groups"),
            Groups::Authenticated => {
                let brought = request.authenticated_groups.as_deref().unwrap_or_default();
                (brought.iter().any(|group| self.names(group)), "X-Authenticated-Groups")
            }
        };
        if named == self.denies {
            return refuse(request, true);
        }
        // A header of that name which the client sent stays when ours is hidden, as in Kong.
        if !self.hide_groups_header {
            let mut text = Vec::with_capacity(64);
            match &groups {
                Groups::OfConsumer(rows) => join(&mut text, rows.iter().map(|row| &*row.key)),
                Groups::Authenticated => join(&mut text, request.authenticated_groups.iter().flatten().map(String::as_str)),
            }
            request.head.headers.set(header, &text);
        }
        Step::Next
    }
}

impl Acl {
    fn names(&self, group: &str) -> bool {
        self.groups.binary_search_by(|named| (**named).cmp(group)).is_ok()
    }
}

fn join<'a>(text: &mut Vec<u8>, groups: impl Iterator<Item = &'a str>) {
    for (at, group) in groups.enumerate() {
        if at > 0 {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(group.as_bytes());
    }
}

/// What a client hears that has not proven who it is, or that may not pass.
fn refuse<'a>(request: &mut Request, proven: bool) -> Step<'a> {
    let reason = if proven { Refused::Forbidden } else { Refused::Missing };
    request.context.set(reason.by(Acl::NAME));
    Step::answer(if proven { Answer::error(403, "You cannot consume this service") } else { Answer::error(401, "Unauthorized") })
}

#[cfg(test)]
mod tests;
