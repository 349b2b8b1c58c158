//! What the node counts beyond Kong's metrics, for as much of it as `extra_metrics` asks for.
//!
//! [`ExtraMetrics`] is kept in [`crate::State`]. Each thread counts in a part of its own, so nobody waits for anybody; whoever
//! tells the figures adds the parts up. There are no label values but those written here and the names of plugins, so nothing
//! grows with what clients send.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Plugins that are counted by name; time of further ones is not told.
pub const MOST_PLUGINS: usize = 128;
/// Threads with a part of their own; further ones share.
const PARTS: usize = 64;

/// A set of metrics that is switched on or off together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtraGroups(u16);

impl ExtraGroups {
    pub const NONE: ExtraGroups = ExtraGroups(0);
    pub const REQUESTS: ExtraGroups = ExtraGroups(1);
    pub const UPSTREAMS: ExtraGroups = ExtraGroups(2);
    pub const PLUGINS: ExtraGroups = ExtraGroups(4);
    pub const AUTHENTICATION: ExtraGroups = ExtraGroups(8);
    pub const LIMITS: ExtraGroups = ExtraGroups(16);
    pub const CACHE: ExtraGroups = ExtraGroups(32);
    pub const DNS: ExtraGroups = ExtraGroups(64);
    pub const TLS: ExtraGroups = ExtraGroups(128);
    pub const CONFIGURATION: ExtraGroups = ExtraGroups(256);
    pub const QUEUES: ExtraGroups = ExtraGroups(512);
    pub const EXEMPLARS: ExtraGroups = ExtraGroups(1024);
    pub const ALL: ExtraGroups = ExtraGroups(2047);

    pub const fn and(self, other: ExtraGroups) -> ExtraGroups {
        ExtraGroups(self.0 | other.0)
    }

    pub const fn has(self, other: ExtraGroups) -> bool {
        self.0 & other.0 != 0
    }

    /// One of the words of `extra_metrics`; none for words there are not.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "off" => Self::NONE,
            "all" => Self::ALL,
            "requests" => Self::REQUESTS,
            "upstreams" => Self::UPSTREAMS,
            "plugins" => Self::PLUGINS,
            "authentication" => Self::AUTHENTICATION,
            "limits" => Self::LIMITS,
            "cache" => Self::CACHE,
            "dns" => Self::DNS,
            "tls" => Self::TLS,
            "configuration" => Self::CONFIGURATION,
            "queues" => Self::QUEUES,
            "exemplars" => Self::EXEMPLARS,
            _ => return None,
        })
    }
}

/// Labels of a series, name and value.
pub type Labels = &'static [(&'static str, &'static str)];

/// Counters with one name.
pub struct Family {
    pub group: ExtraGroups,
    pub name: &'static str,
    pub help: &'static str,
    /// It goes down too.
    pub gauge: bool,
    pub series: &'static [(Tally, Labels)],
}

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    InFlight,
    Connected,
    Reused,
    ConnectFailed,
    RetryConnect,
    RetryTimeout,
    RetryClosed,
    RetryTls,
    RetryResponse,
    Allowed,
    Limited,
    NotCounted,
    QuotaAllowed,
    QuotaLimited,
    QuotaNotCounted,
    CacheHit,
    CacheMiss,
    CacheRefresh,
    CacheBypass,
}

const TALLIES: usize = Tally::CacheBypass as usize + 1;

/// All families of [`Tally`], by name.
pub const FAMILIES: &[Family] = &[
    Family {
        group: ExtraGroups::REQUESTS,
        name: "kong_http_requests_in_flight",
        help: "Requests that are being served",
        gauge: true,
        series: &[(Tally::InFlight, &[])],
    },
    Family {
        group: ExtraGroups::CACHE,
        name: "kong_proxy_cache_results_total",
        help: "Requests by what proxy-cache found for them",
        gauge: false,
        series: &[
            (Tally::CacheBypass, &[("result", "bypass")]),
            (Tally::CacheHit, &[("result", "hit")]),
            (Tally::CacheMiss, &[("result", "miss")]),
            (Tally::CacheRefresh, &[("result", "refresh")]),
        ],
    },
    Family {
        group: ExtraGroups::LIMITS,
        name: "kong_rate_limit_decisions_total",
        help: "Requests by what a limit said of them; not_counted where the counts could not be reached",
        gauge: false,
        series: &[
            (Tally::Allowed, &[("plugin", "rate-limiting"), ("decision", "allowed")]),
            (Tally::Limited, &[("plugin", "rate-limiting"), ("decision", "limited")]),
            (Tally::NotCounted, &[("plugin", "rate-limiting"), ("decision", "not_counted")]),
            (Tally::QuotaAllowed, &[("plugin", "response-ratelimiting"), ("decision", "allowed")]),
            (Tally::QuotaLimited, &[("plugin", "response-ratelimiting"), ("decision", "limited")]),
            (Tally::QuotaNotCounted, &[("plugin", "response-ratelimiting"), ("decision", "not_counted")]),
        ],
    },
    Family {
        group: ExtraGroups::UPSTREAMS,
        name: "kong_upstream_connections_total",
        help: "Tries by the connection they had: a new one, a kept one, none",
        gauge: false,
        series: &[
            (Tally::Connected, &[("result", "connected")]),
            (Tally::ConnectFailed, &[("result", "failed")]),
            (Tally::Reused, &[("result", "reused")]),
        ],
    },
    Family {
        group: ExtraGroups::UPSTREAMS,
        name: "kong_upstream_retries_total",
        help: "Tries that failed and were followed by another, by what went wrong",
        gauge: false,
        series: &[
            (Tally::RetryClosed, &[("reason", "closed")]),
            (Tally::RetryConnect, &[("reason", "connect")]),
            (Tally::RetryResponse, &[("reason", "response")]),
            (Tally::RetryTimeout, &[("reason", "timeout")]),
            (Tally::RetryTls, &[("reason", "tls")]),
        ],
    },
];

/// The part of a request's way in which a plugin took time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Rewrite,
    Access,
    HeaderFilter,
    Log,
}

impl Phase {
    pub const ALL: [(Phase, &'static str); 4] =
        [(Phase::Rewrite, "rewrite"), (Phase::Access, "access"), (Phase::HeaderFilter, "header_filter"), (Phase::Log, "log")];
}

/// Why an authentication, or a rule about who may pass, ended a request. Left in its [`crate::Context`] by who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing was shown.
    Missing,
    /// What was shown is not known, or not right.
    Invalid,
    /// What was shown has had its time.
    Expired,
    /// It is known who asks, and they may not.
    Forbidden,
}

impl Refused {
    pub const fn by(self, plugin: &'static str) -> AuthFailure {
        AuthFailure { plugin, reason: self }
    }

    pub const ALL: [(Refused, &'static str); 4] =
        [(Refused::Missing, "missing"), (Refused::Invalid, "invalid"), (Refused::Expired, "expired"), (Refused::Forbidden, "forbidden")];
}

/// Who refused a request, and why; kept in its [`crate::Context`].
#[derive(Clone, Copy, Debug)]
pub struct AuthFailure {
    pub plugin: &'static str,
    pub reason: Refused,
}

/// What one plugin did.
#[derive(Default)]
struct OfPlugin {
    /// Calls and nanoseconds by phase.
    time: [(AtomicU64, AtomicU64); Phase::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
}

/// One thread's figures.
struct Part {
    tallies: [AtomicU64; TALLIES],
    plugins: Box<[OfPlugin]>,
}

impl Default for Part {
    fn default() -> Self {
        Self { tallies: Default::default(), plugins: (0..MOST_PLUGINS).map(|_| OfPlugin::default()).collect() }
    }
}

/// One plugin's figures, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFigures {
    pub plugin: &'static str,
    /// Calls and time by phase, as in [`Phase::ALL`].
    pub time: [(u64, Duration); Phase::ALL.len()],
    /// Requests refused, as in [`Refused::ALL`].
    pub refused: [u64; Refused::ALL.len()],
}

/// See the module's description.
pub struct ExtraMetrics {
    groups: AtomicU16,
    /// Boxed, so that parts of two threads share no cache line.
    parts: [OnceLock<Box<Part>>; PARTS],
    plugins: Mutex<Vec<&'static str>>,
}

impl Default for ExtraMetrics {
    fn default() -> Self {
        Self { groups: AtomicU16::new(0), parts: [const { OnceLock::new() }; PARTS], plugins: Mutex::default() }
    }
}

thread_local! {
    /// Which part this thread counts in.
    static PART: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % PARTS)
    };
    /// Places of plugins that this thread has met, by the address of their names.
    static PLACES: RefCell<Vec<(usize, Option<usize>)>> = const { RefCell::new(Vec::new()) };
}

impl ExtraMetrics {
    pub fn switch(&self, groups: ExtraGroups) {
        self.groups.store(groups.0, Ordering::Relaxed);
    }

    #[inline]
    pub fn groups(&self) -> ExtraGroups {
        ExtraGroups(self.groups.load(Ordering::Relaxed))
    }

    fn part(&self) -> &Part {
        self.parts[PART.get()].get_or_init(Box::default)
    }

    /// Counts one, where the group is on.
    #[inline]
    pub fn count(&self, group: ExtraGroups, tally: Tally) {
        if self.groups().has(group) {
            self.part().tallies[tally as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request is being served for as long as what this answers lives.
    pub fn enter(&self) -> InFlight<'_> {
        let count = &self.part().tallies[Tally::InFlight as usize];
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(count)
    }

    /// A plugin took this long.
    pub fn took(&self, plugin: &'static str, phase: Phase, time: Duration) {
        let Some(place) = self.place(plugin) else { return };
        let (calls, nanoseconds) = &self.part().plugins[place].time[phase as usize];
        calls.fetch_add(1, Ordering::Relaxed);
        nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// A plugin refused a request.
    pub fn refused(&self, failure: AuthFailure) {
        let Some(place) = self.place(failure.plugin) else { return };
        self.part().plugins[place].refused[failure.reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The place of a plugin among those that are counted, while there is room.
    fn place(&self, plugin: &'static str) -> Option<usize> {
        // Names are constants: the same address is the same name, and a name at two addresses has one place all the same.
        let address = plugin.as_ptr().addr();
        let known = PLACES.with_borrow(|places| places.iter().find(|(known, _)| *known == address).map(|(_, place)| *place));
        known.unwrap_or_else(|| {
            let place = {
                let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
                let known = plugins.iter().position(|known| *known == plugin);
                known.or_else(|| {
                    (plugins.len() < MOST_PLUGINS).then(|| {
                        plugins.push(plugin);
                        plugins.len() - 1
                    })
                })
            };
            PLACES.with_borrow_mut(|places| {
                if places.len() < MOST_PLUGINS {
                    places.push((address, place));
                }
            });
            place
        })
    }

    /// The sum of a counter over all threads.
    pub fn tally(&self, tally: Tally) -> u64 {
        let parts = self.parts.iter().filter_map(OnceLock::get);
        // In-flight requests end on the thread they began on, so no part goes below zero.
        parts.map(|part| part.tallies[tally as usize].load(Ordering::Relaxed)).sum()
    }

    /// What every plugin did, by name.
    pub fn plugins(&self) -> Vec<PluginFigures> {
        let names = self.plugins.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<_> = names.iter().enumerate().map(|(place, plugin)| self.figures(plugin, place)).collect();
        all.sort_unstable_by_key(|figures| figures.plugin);
        all
    }

    fn figures(&self, plugin: &'static str, place: usize) -> PluginFigures {
        let mut figures = PluginFigures { plugin, time: Default::default(), refused: Default::default() };
        for part in self.parts.iter().filter_map(OnceLock::get) {
            let of = &part.plugins[place];
            for ((calls, time), (more_calls, more)) in figures.time.iter_mut().zip(&of.time) {
                *calls += more_calls.load(Ordering::Relaxed);
                *time += Duration::from_nanos(more.load(Ordering::Relaxed));
            }
            figures.refused.iter_mut().zip(&of.refused).for_each(|(sum, more)| *sum += more.load(Ordering::Relaxed));
        }
        figures
    }
}

/// A request that is being served.
pub struct InFlight<'a>(&'a AtomicU64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the node knows of itself, where it is asked for more than Kong tells; see [`crate::Node::extra_figures`].
#[derive(Clone, Debug, Default)]
pub struct ExtraFigures {
    /// Idle upstream connections.
    pub upstream_idle: u64,
    /// Names asked for at a DNS server, those that failed, and answers past their time that were given out.
    pub dns: (u64, u64, u64),
    /// TLS handshakes with clients: done, failed.
    pub handshakes: (u64, u64),
    /// Ids of certificates and when they end, in seconds since the epoch.
    pub certificates: Vec<(String, i64)>,
    pub configuration: Configuration,
}

/// How the configuration that is served came about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Configuration {
    /// Counts publications.
    pub version: u64,
    /// When the last one was, in seconds since the epoch.
    pub published_at: f64,
    /// From a change's arrival at this node to its being served, for the last one.
    pub lag: Duration,
    /// Changes that could not be served at once.
    pub errors: u64,
    /// When that happened last, in seconds since the epoch; 0 for never.
    pub last_error_at: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_plugins_are_told_by_name() {
        let extra = ExtraMetrics::default();
        extra.count(ExtraGroups::CACHE, Tally::CacheHit);
        assert_eq!(extra.tally(Tally::CacheHit), 0);
        extra.switch(ExtraGroups::CACHE);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        extra.count(ExtraGroups::CACHE, Tally::CacheHit);
                        extra.took("key-auth", Phase::Access, Duration::from_nanos(10));
                    }
                    extra.refused(AuthFailure { plugin: "acl", reason: Refused::Forbidden });
                });
            }
        });
        assert_eq!((extra.tally(Tally::CacheHit), extra.tally(Tally::CacheMiss)), (400, 0));
        let plugins = extra.plugins();
        assert_eq!(plugins.iter().map(|figures| figures.plugin).collect::<Vec<_>>(), ["acl", "key-auth"]);
        assert_eq!(plugins[0].refused, [0, 0, 0, 4]);
        assert_eq!(plugins[1].time[Phase::Access as usize], (400, Duration::from_micros(4)));
    }

    #[test]
    fn requests_are_in_flight_until_they_end() {
        let extra = ExtraMetrics::default();
        let (first, second) = (extra.enter(), extra.enter());
        assert_eq!(extra.tally(Tally::InFlight), 2);
        drop(first);
        assert_eq!(extra.tally(Tally::InFlight), 1);
        drop(second);
        assert_eq!(extra.tally(Tally::InFlight), 0);
    }

    #[test]
    fn every_counter_stands_in_one_family() {
        let mut all: Vec<_> = FAMILIES.iter().flat_map(|family| family.series).map(|(tally, _)| *tally as usize).collect();
        all.sort_unstable();
        assert_eq!(all, (0..TALLIES).collect::<Vec<_>>());
        assert!(FAMILIES.is_sorted_by_key(|family| family.name));
    }
}
