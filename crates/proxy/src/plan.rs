//! Which plugin instances run for a request, in which order.
//!
//! Instances are kept by the route and service they are attached to. For each such scope a [`Plan`] holds the plugins in
//! their order of execution with the best instance of each already chosen; what is left for the request is to ask, when a
//! plugin's turn comes, whether an instance for the consumer (known only after authentication) ranks higher.
//!
//! Precedence of one plugin's instances (behaviour checklist 8.2): route+service+consumer, route+consumer,
//! service+consumer, route+service, consumer, route, service, global. Order between plugins: priority descending, equal
//! priorities by name in reverse.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portcullis_plugin::{Entry, Handler, Instance, Phases};
use uuid::Uuid;

use crate::snapshot::sharded::{Keyed, Sharded};

/// A configured plugin instance, ready to run. A handler that could not be made is an error in traffic, never a silent gap.
pub struct Bound {
    pub entry: &'static Entry,
    pub instance: Instance,
    pub handler: Result<Arc<dyn Handler>, String>,
    /// The plugin's phases that this instance has code for.
    pub phases: Phases,
}

impl Bound {
    pub fn new(entry: &'static Entry, instance: Instance, handler: Result<Arc<dyn Handler>, String>) -> Self {
        let phases = handler.as_ref().map_or(entry.phases, |handler| entry.phases.within(handler.phases()));
        Self { entry, instance, handler, phases }
    }
}

/// Instances of one plugin at one scope (a pair of route and service, either absent).
#[derive(Clone, Default)]
struct Instances {
    anyone: Option<Arc<Bound>>,
    consumers: HashMap<Uuid, Arc<Bound>>,
}

impl Instances {
    fn is_empty(&self) -> bool {
        self.anyone.is_none() && self.consumers.is_empty()
    }
}

/// Route and service an instance is attached to.
type Scope = (Option<Uuid>, Option<Uuid>);

/// The plugins of one scope, by name.
#[derive(Clone)]
struct Scoped {
    scope: Scope,
    plugins: Arc<BTreeMap<&'static str, Instances>>,
}

impl Keyed for Scoped {
    type Key = Scope;
    fn key(&self) -> &Scope {
        &self.scope
    }
}

#[derive(Clone)]
struct Planned {
    id: Uuid,
    /// The route's service when the plan is a route's.
    service: Option<Uuid>,
    plan: Arc<Plan>,
}

impl Keyed for Planned {
    type Key = Uuid;
    fn key(&self) -> &Uuid {
        &self.id
    }
}

/// One plugin in a plan: its best instance whoever calls, and those that are for one consumer only.
pub struct Slot {
    pub entry: &'static Entry,
    anyone: Option<Arc<Bound>>,
    /// The instance for anyone is attached to route and service: it ranks above a consumer's own.
    anyone_is_paired: bool,
    /// For one consumer: route+service, route, service; by descending rank.
    paired: [Instances; 3],
    /// For one consumer, wherever the request goes.
    consumer_only: Instances,
    has_consumers: bool,
}

impl Slot {
    /// The instance that runs for this consumer, if any does.
    pub fn resolve(&self, consumer: Option<Uuid>) -> Option<&Bound> {
        if self.has_consumers
            && let Some(consumer) = consumer
        {
            let narrow = self.paired.iter().find_map(|instances| instances.consumers.get(&consumer));
            if let Some(bound) = narrow {
                return Some(bound);
            }
            if !self.anyone_is_paired
                && let Some(bound) = self.consumer_only.consumers.get(&consumer)
            {
                return Some(bound);
            }
        }
        self.anyone.as_deref()
    }
}

/// The plugins of one (route, service) pair in order of execution.
#[derive(Default)]
pub struct Plan {
    pub slots: Vec<Slot>,
    /// The union of the slots' phases.
    phases: Phases,
}

impl Plan {
    /// Whether any plugin of the plan has code for one of these phases.
    #[inline]
    pub fn has(&self, phase: Phases) -> bool {
        self.phases.has(phase)
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// Every enabled instance and the plans made of them.
#[derive(Clone, Default)]
pub struct PluginSet {
    scopes: Sharded<Scoped>,
    /// Plans of routes that have instances of their own.
    routes: Sharded<Planned>,
    /// Plans of services that have instances of their own, for their routes without.
    services: Sharded<Planned>,
    /// The plan of everything else.
    global: Arc<Plan>,
}

impl PluginSet {
    /// The plan for a matched route and its service.
    #[inline]
    pub fn plan(&self, route: Option<Uuid>, service: Option<Uuid>) -> &Arc<Plan> {
        if let Some(route) = route
            && let Some(planned) = self.routes.get(&route)
        {
            return &planned.plan;
        }
        if let Some(service) = service
            && let Some(planned) = self.services.get(&service)
        {
            return &planned.plan;
        }
        &self.global
    }

    /// The plan of requests that match no route: global instances only.
    pub fn global(&self) -> &Arc<Plan> {
        &self.global
    }

    /// Adds or replaces an instance. [`PluginSet::replan`] must follow before the set is used.
    pub fn insert(&mut self, bound: Arc<Bound>) {
        let scope = (bound.instance.route, bound.instance.service);
        let mut plugins = self.scopes.get(&scope).map(|scoped| scoped.plugins.clone()).unwrap_or_default();
        let instances = Arc::make_mut(&mut plugins).entry(bound.entry.name).or_default();
        match bound.instance.consumer {
            Some(consumer) => _ = instances.consumers.insert(consumer, bound),
            None => instances.anyone = Some(bound),
        }
        self.scopes.insert(Scoped { scope, plugins });
    }

    /// Removes the instance with this id from its scope. [`PluginSet::replan`] must follow.
    pub fn remove(&mut self, name: &str, instance: &Instance) {
        let scope = (instance.route, instance.service);
        let Some(scoped) = self.scopes.get(&scope) else { return };
        let mut plugins = scoped.plugins.clone();
        let by_name = Arc::make_mut(&mut plugins);
        let Some((&name, instances)) = by_name.iter_mut().find(|(key, _)| **key == name) else { return };
        match instance.consumer {
            Some(consumer) => {
                if instances.consumers.get(&consumer).is_some_and(|bound| bound.instance.id == instance.id) {
                    instances.consumers.remove(&consumer);
                }
            }
            None => {
                if instances.anyone.as_ref().is_some_and(|bound| bound.instance.id == instance.id) {
                    instances.anyone = None;
                }
            }
        }
        if instances.is_empty() {
            by_name.remove(name);
        }
        if by_name.is_empty() {
            self.scopes.remove(&scope);
        } else {
            self.scopes.insert(Scoped { scope, plugins });
        }
    }

    /// Makes the plans anew that instances of these scopes take part in. `service_of` tells a route's service;
    /// `routes_of` are routes whose service changed.
    pub fn replan(&mut self, touched: &[Scope], service_of: impl Fn(Uuid) -> Option<Uuid>) {
        if touched.contains(&(None, None)) {
            self.global = Arc::new(self.compile(None, None));
            let services: Vec<Uuid> = self.services.iter().map(|planned| planned.id).collect();
            let routes: Vec<Uuid> = self.routes.iter().map(|planned| planned.id).collect();
            services.into_iter().for_each(|service| self.plan_service(service));
            routes.into_iter().for_each(|route| self.plan_route(route, service_of(route)));
        }
        for scope in touched {
            match *scope {
                (None, None) => {}
                (None, Some(service)) => {
                    self.plan_service(service);
                    let routes: Vec<Uuid> =
                        self.routes.iter().filter(|planned| planned.service == Some(service)).map(|planned| planned.id).collect();
                    routes.into_iter().for_each(|route| self.plan_route(route, Some(service)));
                }
                (Some(route), _) => self.plan_route(route, service_of(route)),
            }
        }
    }

    /// A route now belongs to another service, or is gone.
    pub fn route_moved(&mut self, route: Uuid, service: Option<Uuid>) {
        if self.routes.get(&route).is_some() {
            self.plan_route(route, service);
        }
    }

    fn plan_route(&mut self, route: Uuid, service: Option<Uuid>) {
        let own = self.scopes.get(&(Some(route), None)).is_some()
            || service.is_some_and(|service| self.scopes.get(&(Some(route), Some(service))).is_some());
        if own {
            let plan = Arc::new(self.compile(Some(route), service));
            self.routes.insert(Planned { id: route, service, plan });
        } else {
            self.routes.remove(&route);
        }
    }

    fn plan_service(&mut self, service: Uuid) {
        if self.scopes.get(&(None, Some(service))).is_some() {
            let plan = Arc::new(self.compile(None, Some(service)));
            self.services.insert(Planned { id: service, service: None, plan });
        } else {
            self.services.remove(&service);
        }
    }

    fn compile(&self, route: Option<Uuid>, service: Option<Uuid>) -> Plan {
        // By descending rank of an instance for anyone: route+service, route, service, global.
        let scopes = [(route, service), (route, None), (None, service), (None, None)];
        let applies = [route.is_some() && service.is_some(), route.is_some(), service.is_some(), true];
        let levels: Vec<_> =
            scopes.iter().zip(applies).map(|(scope, applies)| self.scopes.get(scope).filter(|_| applies).map(|s| &s.plugins)).collect();
        let mut names: Vec<&'static str> = levels.iter().flatten().flat_map(|plugins| plugins.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let mut slots: Vec<Slot> = names.into_iter().filter_map(|name| slot(name, &levels)).collect();
        slots.sort_by(|a, b| b.entry.priority.cmp(&a.entry.priority).then_with(|| b.entry.name.cmp(a.entry.name)));
        let phases = slots.iter().fold(Phases::NONE, |phases, slot| phases.and(slot.entry.phases));
        Plan { slots, phases }
    }
}

fn slot(name: &str, levels: &[Option<&Arc<BTreeMap<&'static str, Instances>>>]) -> Option<Slot> {
    let at = |level: usize| levels[level].and_then(|plugins| plugins.get(name)).cloned().unwrap_or_default();
    let by_level = [at(0), at(1), at(2), at(3)];
    let best = by_level.iter().position(|instances| instances.anyone.is_some());
    let anyone = best.and_then(|level| by_level[level].anyone.clone());
    let any = anyone.clone().or_else(|| by_level.iter().find_map(|instances| instances.consumers.values().next().cloned()))?;
    let has_consumers = by_level.iter().any(|instances| !instances.consumers.is_empty());
    let [paired, routed, served, global] = by_level;
    Some(Slot {
        entry: any.entry,
        anyone,
        anyone_is_paired: best == Some(0),
        paired: [paired, routed, served],
        consumer_only: global,
        has_consumers,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portcullis_plugin::{Env, Plugin, Result, Scopes};
    use portcullis_schema::{Field, Fields};

    use super::*;

    /// A plugin that does nothing, under a name and a priority of the test's choice.
    struct Named<const PRIORITY: i32, const LETTER: char>;
    #[derive(serde::Deserialize)]
    struct Nothing {}
    impl Fields for Nothing {
        fn fields() -> Vec<(&'static str, Field)> {
            Vec::new()
        }
    }
    impl<const PRIORITY: i32, const LETTER: char> Handler for Named<PRIORITY, LETTER> {}
    impl<const PRIORITY: i32, const LETTER: char> Plugin for Named<PRIORITY, LETTER> {
        const NAME: &'static str = match LETTER {
            'a' => "a",
            'b' => "b",
            _ => "c",
        };
        const PRIORITY: i32 = PRIORITY;
        const PHASES: Phases = Phases::ACCESS;
        const SCOPES: Scopes = Scopes::ANY;
        type Config = Nothing;
        fn new(_: Nothing, _: &Instance, _: &Env) -> Result<Self> {
            Ok(Self)
        }
    }

    static A: Entry = Entry::of::<Named<10, 'a'>>();
    static B: Entry = Entry::of::<Named<10, 'b'>>();
    static C: Entry = Entry::of::<Named<20, 'c'>>();

    const ROUTE: Uuid = Uuid::from_u128(1);
    const SERVICE: Uuid = Uuid::from_u128(2);
    const CONSUMER: Uuid = Uuid::from_u128(3);

    fn bound(entry: &'static Entry, id: u128, route: Option<Uuid>, service: Option<Uuid>, consumer: Option<Uuid>) -> Arc<Bound> {
        let instance = Instance { id: Uuid::from_u128(id), route, service, consumer };
        Arc::new(Bound::new(entry, instance, Err("a test's plugin is never run".to_owned())))
    }

    fn set(instances: &[Arc<Bound>]) -> PluginSet {
        let mut set = PluginSet::default();
        let mut touched = Vec::new();
        for bound in instances {
            touched.push((bound.instance.route, bound.instance.service));
            set.insert(bound.clone());
        }
        set.replan(&touched, |route| (route == ROUTE).then_some(SERVICE));
        set
    }

    fn runs(set: &PluginSet, route: Option<Uuid>, service: Option<Uuid>, consumer: Option<Uuid>) -> Vec<u128> {
        set.plan(route, service).slots.iter().filter_map(|slot| slot.resolve(consumer)).map(|bound| bound.instance.id.as_u128()).collect()
    }

    #[test]
    fn the_narrowest_instance_runs() {
        // In ascending rank: each one added goes before all that were there.
        let ranks = [
            (None, None, None),
            (None, Some(SERVICE), None),
            (Some(ROUTE), None, None),
            (None, None, Some(CONSUMER)),
            (Some(ROUTE), Some(SERVICE), None),
            (None, Some(SERVICE), Some(CONSUMER)),
            (Some(ROUTE), None, Some(CONSUMER)),
            (Some(ROUTE), Some(SERVICE), Some(CONSUMER)),
        ];
        let all: Vec<_> =
            ranks.iter().zip(1..).map(|((route, service, consumer), id)| bound(&A, id, *route, *service, *consumer)).collect();
        for count in 1..=all.len() {
            assert_eq!(runs(&set(&all[..count]), Some(ROUTE), Some(SERVICE), Some(CONSUMER)), [count as u128], "{count}");
        }
        let whole = set(&all);
        assert_eq!(runs(&whole, Some(ROUTE), Some(SERVICE), None), [5]);
        assert_eq!(runs(&whole, None, Some(SERVICE), Some(CONSUMER)), [6]);
        assert_eq!(runs(&whole, None, None, Some(CONSUMER)), [4]);
        assert_eq!(runs(&whole, None, None, None), [1]);
    }

    #[test]
    fn order_is_by_priority_then_by_name_in_reverse() {
        let all = [bound(&A, 1, None, None, None), bound(&B, 2, None, None, None), bound(&C, 3, Some(ROUTE), None, None)];
        assert_eq!(runs(&set(&all), Some(ROUTE), Some(SERVICE), None), [3, 2, 1]);
        assert_eq!(runs(&set(&all), None, Some(SERVICE), None), [2, 1]);
    }

    #[test]
    fn a_removed_instance_is_gone_and_others_stay() {
        let all = [bound(&A, 1, None, None, None), bound(&A, 2, Some(ROUTE), None, None), bound(&B, 3, Some(ROUTE), None, None)];
        let mut set = set(&all);
        let before = set.clone();
        set.remove("a", &all[1].instance);
        set.replan(&[(Some(ROUTE), None)], |_| Some(SERVICE));
        assert_eq!(runs(&set, Some(ROUTE), Some(SERVICE), None), [3, 1]);
        assert_eq!(runs(&before, Some(ROUTE), Some(SERVICE), None), [3, 2]);
    }

    #[test]
    fn a_route_that_moves_takes_its_new_services_plugins() {
        let other = Uuid::from_u128(9);
        let all = [bound(&A, 1, Some(ROUTE), None, None), bound(&B, 2, None, Some(SERVICE), None), bound(&C, 3, None, Some(other), None)];
        let mut set = set(&all);
        assert_eq!(runs(&set, Some(ROUTE), Some(SERVICE), None), [2, 1]);
        set.route_moved(ROUTE, Some(other));
        assert_eq!(runs(&set, Some(ROUTE), Some(other), None), [3, 1]);
    }

    #[test]
    fn a_consumers_own_instance_alone_runs_for_nobody_else() {
        let set = set(&[bound(&A, 1, None, None, Some(CONSUMER))]);
        assert_eq!(runs(&set, None, None, None), [0u128; 0]);
        assert_eq!(runs(&set, None, None, Some(CONSUMER)), [1]);
    }
}
