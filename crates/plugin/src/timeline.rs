//! When what happened to a request, kept only on nodes where something wants to know.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use uuid::Uuid;

/// The parts of a request's way that make spans (`tracing_instrumentations`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruments(u16);

impl Instruments {
    pub const NONE: Instruments = Instruments(0);
    pub const REQUEST: Instruments = Instruments(1);
    pub const DATABASE: Instruments = Instruments(2);
    pub const DNS: Instruments = Instruments(4);
    pub const ROUTER: Instruments = Instruments(8);
    pub const HTTP_CLIENT: Instruments = Instruments(16);
    pub const BALANCER: Instruments = Instruments(32);
    pub const REWRITE: Instruments = Instruments(64);
    pub const ACCESS: Instruments = Instruments(128);
    pub const HEADER_FILTER: Instruments = Instruments(256);
    pub const ALL: Instruments = Instruments(511);

    pub const fn and(self, other: Instruments) -> Instruments {
        Instruments(self.0 | other.0)
    }

    pub const fn has(self, other: Instruments) -> bool {
        self.0 & other.0 != 0
    }

    /// One of the words of `tracing_instrumentations`; none for words there are not.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "off" => Self::NONE,
            "all" => Self::ALL,
            "request" => Self::REQUEST,
            "db_query" => Self::DATABASE,
            "dns_query" => Self::DNS,
            "router" => Self::ROUTER,
            "http_client" => Self::HTTP_CLIENT,
            "balancer" => Self::BALANCER,
            "plugin_rewrite" => Self::REWRITE,
            "plugin_access" => Self::ACCESS,
            "plugin_header_filter" => Self::HEADER_FILTER,
            _ => return None,
        })
    }
}

/// What the node traces, for plugins to ask; kept in [`crate::State`], set by the program.
#[derive(Debug, Default)]
pub struct Tracing {
    instruments: AtomicU16,
    /// The bits of a float.
    sampling_rate: AtomicU64,
}

impl Tracing {
    /// `sampling_rate` is the share of requests whose spans are sent, from 0 to 1.
    pub fn set(&self, instruments: Instruments, sampling_rate: f64) {
        self.instruments.store(instruments.0, Ordering::Relaxed);
        self.sampling_rate.store(sampling_rate.to_bits(), Ordering::Relaxed);
    }

    pub fn instruments(&self) -> Instruments {
        Instruments(self.instruments.load(Ordering::Relaxed))
    }

    pub fn sampling_rate(&self) -> f64 {
        f64::from_bits(self.sampling_rate.load(Ordering::Relaxed))
    }
}

/// A part of a request's way; plugins by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Router,
    Rewrite(&'static str),
    Access(&'static str),
    /// The name of the upstream was asked for.
    Dns,
    HeaderFilter(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub stage: Stage,
    /// Which instance of the plugin.
    pub instance: Option<Uuid>,
    pub begun: Instant,
    pub ended: Instant,
}

/// What happened when, in order of ending.
#[derive(Debug, Default)]
pub struct Timeline {
    pub stretches: Vec<Stretch>,
}

impl Timeline {
    /// Notes a stage that has just ended.
    pub fn note(&mut self, stage: Stage, instance: Option<Uuid>, begun: Instant) {
        self.stretches.push(Stretch { stage, instance, begun, ended: Instant::now() });
    }
}
