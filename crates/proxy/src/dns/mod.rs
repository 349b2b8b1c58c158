//! Turns host names into addresses, off the worker threads.
//!
//! Workers read the cache with [`Dns::cached`], which never waits: an answer past its time is still given, for up to
//! `stale_ttl`, while one refresh runs on the control runtime. [`Dns::resolve`] waits for a name that is not in the cache; all
//! who ask for one name wait for the same query. Literal addresses never reach DNS.
//!
//! - `answer.rs`: what is known about a name, and the errors
//! - `cache.rs`: names and answers, bounded, read without locks
//! - `hosts.rs`: the hosts file
//! - `query.rs`: one name through `dns_order`, by hickory

mod answer;
mod cache;
mod hosts;
mod query;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

pub use answer::{Address, Answer, DnsError, Kind};
use cache::{Cache, Slot};
use query::Resolver;

/// What kong.conf says about DNS, by its `dns_*` keys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `dns_resolver`; empty for those of resolv.conf.
    pub resolvers: Vec<SocketAddr>,
    /// `dns_hostsfile`; read once at start.
    pub hosts_file: PathBuf,
    /// `dns_order`.
    pub order: Vec<Kind>,
    /// `dns_valid_ttl`: stands in for the records' own TTL.
    pub valid_ttl: Option<Duration>,
    /// `dns_stale_ttl`.
    pub stale_ttl: Duration,
    /// `dns_not_found_ttl`.
    pub not_found_ttl: Duration,
    /// `dns_error_ttl`.
    pub error_ttl: Duration,
    /// `dns_cache_size`, in names.
    pub cache_size: usize,
    /// SRV records are asked for names of the form `_service._protocol.name` alone, and nothing else is for those
    /// (`new_dns_client`).
    pub srv_by_name: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            hosts_file: "/etc/hosts".into(),
            order: vec![Kind::Last, Kind::Srv, Kind::A, Kind::Cname],
            valid_ttl: None,
            stale_ttl: Duration::from_secs(3600),
            not_found_ttl: Duration::from_secs(30),
            error_ttl: Duration::from_secs(1),
            cache_size: 10_000,
            srv_by_name: false,
        }
    }
}

/// Names asked for, of those the ones that got no answer, and answers past their time that were given out.
static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

fn count(which: usize) {
    COUNTS[which].fetch_add(1, Ordering::Relaxed);
}

/// Look-ups of this process so far at DNS servers: all, those that failed, and how often an answer past its time was given out.
pub fn lookups() -> (u64, u64, u64) {
    let [asked, failed, stale] = &COUNTS;
    (asked.load(Ordering::Relaxed), failed.load(Ordering::Relaxed), stale.load(Ordering::Relaxed))
}

/// Host names and their addresses, shared by all threads.
pub struct Dns {
    cache: Cache,
    /// Names of the hosts file, which never change.
    fixed: HashMap<Box<str>, Answer>,
    resolver: Resolver,
    settings: Settings,
    runtime: Handle,
    in_flight: Mutex<HashMap<Arc<str>, watch::Receiver<Option<Known>>>>,
}

/// What is known about a name: its addresses, or why it has none.
pub type Known = Result<Answer, DnsError>;

impl Dns {
    /// Reads resolv.conf and the hosts file; queries will run on `runtime`.
    ///
    /// A missing or broken resolv.conf is an error only when `resolvers` is empty. A missing hosts file is none.
    pub fn new(settings: Settings, runtime: Handle) -> Result<Arc<Self>, DnsError> {
        let hosts = hosts::read(&settings.hosts_file);
        let fixed = hosts.iter().filter_map(|(name, addresses)| Some((name.clone(), hosts::answer(addresses, &settings.order)?)));
        let fixed: HashMap<_, _> = fixed.collect();
        let resolver = {
            let _inside = runtime.enter();
            Resolver::new(&settings.resolvers, hosts, &settings.order, settings.srv_by_name)?
        };
        Ok(Arc::new(Self { cache: Cache::new(settings.cache_size), fixed, resolver, settings, runtime, in_flight: Mutex::default() }))
    }

    /// What is known about a name without waiting; none if nobody has asked yet or the answer is too old.
    ///
    /// An answer past its time is given out while a refresh is started.
    pub fn cached(self: &Arc<Self>, name: &str) -> Option<Known> {
        if let Some(address) = literal(name) {
            return Some(Ok(Answer::literal(address)));
        }
        if let Some(answer) = self.fixed.get(name) {
            return Some(Ok(answer.clone()));
        }
        let now = Instant::now();
        let slot = self.cache.get(name)?;
        if now < slot.fresh_until {
            return Some(slot.known.clone());
        }
        if slot.known.is_ok() && now < slot.fresh_until + self.settings.stale_ttl {
            if slot.start_refresh() {
                drop(self.ask(name));
            }
            count(2);
            return Some(slot.known.clone());
        }
        None
    }

    /// The addresses of a name, asking for them if need be.
    pub async fn resolve(self: &Arc<Self>, name: &str) -> Known {
        if let Some(known) = self.cached(name) {
            return known;
        }
        let mut answer = self.ask(name);
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(known)) => known.clone(),
            _ => Err(DnsError::failed("dns client error: query was given up")),
        }
    }

    /// Forgets every answer.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// Starts a query, or joins the one under way for this name.
    fn ask(self: &Arc<Self>, name: &str) -> watch::Receiver<Option<Known>> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = in_flight.get(name) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        let name: Arc<str> = name.into();
        in_flight.insert(name.clone(), receiver.clone());
        drop(in_flight);
        let dns = self.clone();
        self.runtime.spawn(async move {
            let last = dns.cache.get(&name).and_then(|slot| slot.last_kind);
            let known = dns.resolver.resolve(&name, last).await;
            count(0);
            if known.is_err() {
                count(1);
            }
            dns.store(&name, known.clone(), last);
            dns.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            sender.send_replace(Some(known));
        });
        receiver
    }

    fn store(&self, name: &str, known: Known, last: Option<Kind>) {
        let now = Instant::now();
        let fresh_for = match &known {
            Ok(answer) => match self.settings.valid_ttl {
                Some(ttl) if !answer.is_fixed => ttl,
                _ => answer.ttl,
            },
            Err(error) if error.is_not_found() => self.settings.not_found_ttl,
            Err(_) => self.settings.error_ttl,
        };
        if let (Err(error), Some(old)) = (&known, self.cache.get(name)) {
            // A refresh that fails leaves the stale answer in place until its time is up.
            if old.known.is_ok() && now < old.fresh_until + self.settings.stale_ttl {
                tracing::warn!(name, %error, "dns refresh failed, the stale answer stays in use");
                old.end_refresh();
                return;
            }
        }
        let last_kind = known.as_ref().map_or(last, |answer| Some(answer.kind));
        self.cache.insert(name, Slot::new(known, now + fresh_for, last_kind));
    }
}

/// The address that a host is written as, with or without the brackets of IPv6.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}
