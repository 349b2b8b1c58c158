//! Which paths there are, and which function answers which verb on each.
//!
//! Entities of the catalog get their paths from their schemas; `overrides` then replaces single verbs. A path's fixed
//! segments win over its parameters, so `/plugins/enabled` is never the plugin `enabled`.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use portcullis_schema::{Catalog, Schema};
use portcullis_store::BoxFuture;

use crate::answer::Outcome;
use crate::rows::Admin;
use crate::state::ExtensionHandler;
use crate::{Call, Extension, bulk, clustering, config, crud, nested, node, openapi, overrides, status as status_api};

/// What an entity path is about.
#[derive(Clone)]
pub struct Scope {
    /// The entity whose rows are read and written.
    pub schema: Arc<Schema>,
    /// The entity that the path starts with, where it is another one.
    pub parent: Option<Arc<Schema>>,
    /// The foreign field that ties the two.
    pub field: String,
}

pub type PlainHandler = for<'a> fn(&'a Admin, &'a Call) -> BoxFuture<'a, Outcome>;
pub type WholeHandler = for<'a> fn(&'a Admin, &'a Table, &'a Call) -> BoxFuture<'a, Outcome>;
pub type ScopedHandler = for<'a> fn(&'a Admin, &'a Call, &'a Scope) -> BoxFuture<'a, Outcome>;

/// One verb of one path.
#[derive(Clone)]
pub enum Handle {
    Plain(PlainHandler),
    Scoped(ScopedHandler),
    /// It wants to know all other endpoints.
    Whole(WholeHandler),
    Extension(ExtensionHandler),
}

/// One path.
#[derive(Clone)]
pub struct Endpoint {
    /// As `/endpoints` shows it: `/services/{services}`.
    pub pattern: String,
    pub scope: Option<Scope>,
    pub verbs: Vec<(Method, Handle)>,
    /// Runs before any of its verbs, OPTIONS included.
    pub before: Option<PlainHandler>,
    /// Kong lists the path and answers 404 on it.
    pub disabled: bool,
}

impl Endpoint {
    /// The verbs as `Allow` names them, HEAD and OPTIONS included, sorted.
    pub fn allow(&self) -> String {
        let mut verbs: Vec<&str> = self.verbs.iter().map(|(method, _)| method.as_str()).collect();
        verbs.push("OPTIONS");
        if verbs.contains(&"GET") {
            verbs.push("HEAD");
        }
        verbs.sort_unstable();
        verbs.dedup();
        verbs.join(", ")
    }

    pub fn verb(&self, method: &Method) -> Option<&Handle> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        self.verbs.iter().find(|(known, _)| known == wanted).map(|(_, handle)| handle)
    }
}

/// All paths of one API.
#[derive(Default)]
pub struct Table {
    endpoints: Vec<Endpoint>,
    root: Branch,
}

#[derive(Default)]
struct Branch {
    fixed: HashMap<String, Branch>,
    parameter: Option<Box<Branch>>,
    endpoint: Option<usize>,
}

impl Table {
    /// The endpoint of this path, made if there is none yet.
    pub fn at(&mut self, pattern: &str) -> &mut Endpoint {
        let mut branch = &mut self.root;
        for segment in pattern.split('/').skip(1).filter(|segment| !segment.is_empty()) {
            branch = match segment.starts_with('{') {
                true => branch.parameter.get_or_insert_default(),
                false => branch.fixed.entry(segment.to_owned()).or_default(),
            };
        }
        let at = *branch.endpoint.get_or_insert_with(|| {
            let pattern = pattern.to_owned();
            self.endpoints.push(Endpoint { pattern, scope: None, verbs: Vec::new(), before: None, disabled: false });
            self.endpoints.len() - 1
        });
        &mut self.endpoints[at]
    }

    /// Answers `method` on `pattern` with `handler`, instead of what did before.
    pub fn plain(&mut self, method: Method, pattern: &str, handler: PlainHandler) {
        self.set(method, pattern, Handle::Plain(handler));
    }

    /// The same for a handler that wants to know the entity of the path.
    pub fn scoped(&mut self, method: Method, pattern: &str, handler: ScopedHandler) {
        self.set(method, pattern, Handle::Scoped(handler));
    }

    pub fn set(&mut self, method: Method, pattern: &str, handle: Handle) {
        let endpoint = self.at(pattern);
        endpoint.verbs.retain(|(known, _)| *known != method);
        endpoint.verbs.push((method, handle));
    }

    fn entity(&mut self, pattern: &str, scope: Scope, verbs: &[(Method, ScopedHandler)]) {
        let endpoint = self.at(pattern);
        endpoint.scope = Some(scope);
        endpoint.verbs = verbs.iter().map(|(method, handler)| (method.clone(), Handle::Scoped(*handler))).collect();
    }

    /// The endpoint of a path, and the values of its parameters.
    pub fn find(&self, segments: &[String]) -> Option<(&Endpoint, Vec<String>)> {
        let mut params = Vec::new();
        let at = descend(&self.root, segments, &mut params)?;
        let endpoint = &self.endpoints[at];
        (!endpoint.disabled).then_some((endpoint, params))
    }

    /// Every endpoint that answers.
    pub fn served(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| !endpoint.disabled)
    }

    /// Every path, sorted by segments: `/a/z` comes before `/a-b`.
    pub fn patterns(&self) -> Vec<&str> {
        let mut patterns: Vec<&str> = self.endpoints.iter().map(|endpoint| endpoint.pattern.as_str()).collect();
        patterns.sort_unstable_by(|one, other| one.split('/').cmp(other.split('/')));
        patterns
    }
}

fn descend(branch: &Branch, segments: &[String], params: &mut Vec<String>) -> Option<usize> {
    let Some((segment, rest)) = segments.split_first() else { return branch.endpoint };
    if segment.is_empty() {
        return None;
    }
    if let Some(found) = branch.fixed.get(segment).and_then(|fixed| descend(fixed, rest, params)) {
        return Some(found);
    }
    let parameter = branch.parameter.as_ref()?;
    params.push(segment.clone());
    let found = descend(parameter, rest, params);
    if found.is_none() {
        params.pop();
    }
    found
}

/// The collection of an entity in a URL.
pub fn admin_name(schema: &Schema) -> &str {
    schema.admin_name.unwrap_or(&schema.name)
}

/// The paths of the Admin API.
pub fn admin(catalog: &Catalog, extensions: &[Extension]) -> Table {
    let mut table = Table::default();
    for schema in catalog.entities.iter().filter(|schema| schema.admin_api) {
        let scope = Scope { schema: schema.clone(), parent: None, field: String::new() };
        let collection = format!("/{}", admin_name(schema));
        let item = format!("{collection}/{{{}}}", schema.name);
        table.entity(&collection, scope.clone(), &[(Method::GET, crud::LIST), (Method::POST, crud::CREATE)]);
        let verbs =
            [(Method::GET, crud::READ), (Method::PUT, crud::REPLACE), (Method::PATCH, crud::CHANGE), (Method::DELETE, crud::REMOVE)];
        table.entity(&item, scope, &verbs);
        for (field, foreign, _) in schema.foreigns() {
            let Some(parent) = catalog.entity(foreign).filter(|parent| parent.admin_api) else { continue };
            let up = Scope { schema: parent.clone(), parent: Some(schema.clone()), field: field.to_owned() };
            let verbs = [
                (Method::GET, nested::READ_PARENT),
                (Method::PUT, nested::REPLACE_PARENT),
                (Method::PATCH, nested::CHANGE_PARENT),
                (Method::DELETE, nested::REMOVE_PARENT),
            ];
            table.entity(&format!("{item}/{field}"), up, &verbs);

            let down = Scope { schema: schema.clone(), parent: Some(parent.clone()), field: field.to_owned() };
            let name = schema.nested_name.unwrap_or(admin_name(schema));
            let children = format!("/{}/{{{}}}/{name}", admin_name(parent), parent.name);
            let child = format!("{children}/{{{}}}", schema.name);
            table.entity(&children, down.clone(), &[(Method::GET, nested::LIST), (Method::POST, nested::CREATE)]);
            let verbs = [
                (Method::GET, nested::READ),
                (Method::PUT, nested::REPLACE),
                (Method::PATCH, nested::CHANGE),
                (Method::DELETE, nested::REMOVE),
            ];
            table.entity(&child, down, &verbs);
        }
    }
    bulk::endpoints(&mut table);
    node::endpoints(&mut table);
    openapi::endpoints(&mut table);
    config::endpoints(&mut table);
    clustering::endpoints(&mut table);
    overrides::endpoints(&mut table, catalog);
    for extension in extensions {
        table.set(extension.method.clone(), extension.path, Handle::Extension(extension.handle.clone()));
    }
    table
}

/// The paths of the Status API.
pub fn status(catalog: &Catalog, upstreams: bool) -> Table {
    let mut table = Table::default();
    status_api::endpoints(&mut table, upstreams);
    // The handlers of these paths want to know what they are about.
    if let (true, Some(schema), Some(parent)) = (upstreams, catalog.entity("targets"), catalog.entity("upstreams")) {
        let scope = Scope { schema: schema.clone(), parent: Some(parent.clone()), field: "upstream".to_owned() };
        for endpoint in table.endpoints.iter_mut().filter(|endpoint| endpoint.pattern.starts_with("/upstreams/")) {
            endpoint.scope = Some(scope.clone());
        }
    }
    table
}
