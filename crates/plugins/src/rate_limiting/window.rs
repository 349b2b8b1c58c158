//! Windows of time and what a request does to their counts. Pure: `now` is an argument.
//!
//! Windows are those of the calendar in UTC: a minute ends when the clock's minute does, a year on 31 December.

/// A kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

/// From the shortest to the longest.
pub const PERIODS: [Period; 6] = [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month, Period::Year];

const DAY: u64 = 86_400;

impl Period {
    /// As keys and tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Period::Second => "second",
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Month => "month",
            Period::Year => "year",
        }
    }

    /// What clients are told the window lasts, in seconds. Kong counts 30 days to a month and 365 to a year.
    pub fn nominal_secs(self) -> u64 {
        match self {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3600,
            Period::Day => DAY,
            Period::Month => 30 * DAY,
            Period::Year => 365 * DAY,
        }
    }

    /// Start and end of the window that `now` lies in, in seconds since the epoch.
    pub fn window(self, now: u64) -> Window {
        let day = now / DAY;
        let (start, end) = match self {
            Period::Month => {
                let (start, end) = month_of(day);
                (start * DAY, end * DAY)
            }
            Period::Year => {
                let year = year_of(day);
                (days_before(year) * DAY, days_before(year + 1) * DAY)
            }
            _ => {
                let length = self.nominal_secs();
                let start = now - now % length;
                (start, start + length)
            }
        };
        Window { start, end }
    }
}

/// Seconds since the epoch; `end` is the first that no longer belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub start: u64,
    pub end: u64,
}

/// Days from the epoch to the first of January of a year from 1970 on.
fn days_before(year: u64) -> u64 {
    let last = year - 1;
    // 477 leap days lie before 1970.
    (year - 1970) * 365 + last / 4 - last / 100 + last / 400 - 477
}

fn year_of(day: u64) -> u64 {
    // Never too late, and in our times one or two years too early.
    let mut year = 1970 + day / 366;
    while days_before(year + 1) <= day {
        year += 1;
    }
    year
}

/// First day of the month that a day lies in, and first day of the next.
fn month_of(day: u64) -> (u64, u64) {
    let year = year_of(day);
    let is_leap = days_before(year + 1) - days_before(year) == 366;
    let lengths = [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut start = days_before(year);
    for length in lengths {
        if day < start + length {
            return (start, start + length);
        }
        start += length;
    }
    (start, start)
}

/// A window under a limit.
#[derive(Clone, Copy, Debug)]
pub struct Limited {
    pub period: Period,
    /// Requests a window takes; what is left of a fraction admits one more.
    pub limit: f64,
}

/// Requests counted for one client in the current window of each period.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    windows: [Count; PERIODS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    start: u32,
    number: u64,
}

/// What a request met: for each limit how many had gone before it, and the limit that stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub used: [u64; PERIODS.len()],
    pub stopped: Option<usize>,
}

impl Counts {
    /// Counts a request in the windows it falls into, unless one of them is full: then it is counted in none.
    ///
    /// `windows` are those of `limits`, in the same order. A request that is late by a window counts for the newer one.
    pub fn hit(&mut self, limits: &[Limited], windows: &[Window]) -> Hit {
        let mut hit = Hit { used: [0; PERIODS.len()], stopped: None };
        for (at, (limited, window)) in limits.iter().zip(windows).enumerate() {
            let count = &mut self.windows[limited.period as usize];
            if u64::from(count.start) < window.start {
                *count = Count { start: u32::try_from(window.start).unwrap_or(u32::MAX), number: 0 };
            }
            hit.used[at] = count.number;
            if count.number as f64 >= limited.limit {
                hit.stopped = Some(at);
            }
        }
        if hit.stopped.is_none() {
            for limited in limits {
                self.windows[limited.period as usize].number += 1;
            }
        }
        hit
    }
}

/// What clients are told of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// Requests left after this one; never negative.
    pub remaining: f64,
    /// Seconds until the window ends, at least one.
    pub reset: u64,
}

impl Hit {
    /// What is told of the limit at this position. A request that was stopped by another limit took nothing from this one.
    pub fn told(&self, at: usize, limited: &Limited, window: &Window, now: u64) -> Told {
        let left = limited.limit - self.used[at] as f64;
        let counted = self.stopped.is_none_or(|stopped| stopped == at);
        let remaining = if counted { left - 1.0 } else { left };
        let reset = limited.period.nominal_secs().saturating_sub(now.saturating_sub(window.start));
        Told { remaining: remaining.max(0.0), reset: reset.max(1) }
    }
}

/// The position of the limit that tells most: with the least left, of equals the longest.
pub fn tightest(told: &[Told]) -> Option<usize> {
    (0..told.len()).rev().reduce(|best, at| if told[at].remaining < told[best].remaining { at } else { best })
}
