//! Counters that plugins keep in the database, so that several nodes count together.

use uuid::Uuid;

/// Whose counters; Kong has a table for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// rate-limiting's.
    Requests,
    /// response-ratelimiting's.
    Responses,
}

impl Counted {
    /// Kong's table.
    pub fn table(self) -> &'static str {
        match self {
            Counted::Requests => "ratelimiting_metrics",
            Counted::Responses => "response_ratelimiting_metrics",
        }
    }
}

/// One counter, and what is to become of it.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Who is counted.
    pub identifier: String,
    /// The kind of window, as Kong names it: `minute`, or `video_minute` for a named limit.
    pub period: String,
    /// When the window began, in seconds since the epoch.
    pub start: u64,
    pub service: Uuid,
    pub route: Uuid,
    /// What is added; zero only reads, less gives back.
    pub by: i32,
    /// Holds it so much already, nothing is added to any counter of the same call.
    pub bound: f64,
    /// Seconds after which a counter that is new may be forgotten.
    pub lives: u64,
}
