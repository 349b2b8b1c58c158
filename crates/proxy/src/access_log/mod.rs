//! The access log's way off the worker threads: each appends lines to a buffer of its own, a writer takes what is there.
//!
//! A worker's cost is the text of a line and a lock that only the writer ever contends for, some fifty times a second at most.
//! Buffers are bounded: a line that finds its buffer full is dropped and counted.
//!
//! - [`format`]: what a line says
//! - [`line`]: a finished exchange as a line

pub mod format;
mod line;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

pub use format::{Format, Variable};
pub(crate) use line::{Facts, write_refusal};

/// Bytes of lines that one thread may have waiting for the writer.
const MOST_WAITING: usize = 1 << 20;

/// Lines on their way to one file.
#[derive(Default)]
pub struct Lines {
    taps: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    /// Somebody wrote since the writer looked last.
    waiting: AtomicBool,
    writer: OnceLock<Thread>,
    dropped: AtomicU64,
}

/// Where one thread writes.
pub struct Tap {
    lines: Arc<Lines>,
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Default)]
struct Buffer {
    text: Vec<u8>,
    time: Time,
}

/// A second in the forms that lines have it in; made once a second.
#[derive(Clone, Debug, Default)]
pub struct Time {
    second: u64,
    /// `31/Jan/2026:00:01:00 +0000`
    pub common: String,
    /// `2026-01-31T00:01:00+00:00`
    pub iso: String,
}

impl Lines {
    /// A buffer for a thread of the caller's.
    pub fn tap(self: &Arc<Self>) -> Tap {
        let buffer = Arc::<Mutex<Buffer>>::default();
        locked(&self.taps).push(buffer.clone());
        Tap { lines: self.clone(), buffer }
    }

    /// Makes the calling thread the writer: it is unparked when there are lines.
    pub fn adopt_writer(&self) {
        let _ = self.writer.set(std::thread::current());
    }

    /// Whether there may be lines that [`Lines::take`] has not seen.
    pub fn are_waiting(&self) -> bool {
        self.waiting.swap(false, Ordering::Acquire)
    }

    /// Moves everything that waits to the end of `into`.
    pub fn take(&self, into: &mut Vec<u8>) {
        // Buffers of threads that are gone go once they are empty.
        locked(&self.taps).retain(|tap| {
            let mut buffer = locked(tap);
            into.append(&mut buffer.text);
            Arc::strong_count(tap) > 1
        });
    }

    /// How many lines found their buffer full since this was asked last.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    fn wake(&self) {
        if !self.waiting.load(Ordering::Relaxed)
            && !self.waiting.swap(true, Ordering::AcqRel)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }
}

impl Tap {
    /// Appends a line at this moment (milliseconds since the epoch); never waits for the file.
    pub fn write(&self, now_ms: u64, line: impl FnOnce(&mut Vec<u8>, &Time)) {
        {
            let mut buffer = locked(&self.buffer);
            let Buffer { text, time } = &mut *buffer;
            if text.len() >= MOST_WAITING {
                self.lines.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            time.set(now_ms / 1000);
            line(text, time);
            text.push(b'\n');
        }
        self.lines.wake();
    }
}

impl Time {
    fn set(&mut self, second: u64) {
        if self.second == second && !self.common.is_empty() {
            return;
        }
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let date = httpdate::HttpDate::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second)).to_string();
        // "Sat, 31 Jan 2026 00:01:00 GMT", whose parts have fixed places.
        let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
        let (day, month, year, clock) = (part(5, 7), part(8, 11), part(12, 16), part(17, 25));
        let number = MONTHS.iter().position(|name| *name == month).map_or(0, |at| at + 1);
        self.second = second;
        self.common = format!("{day}/{month}/{year}:{clock} +0000");
        self.iso = format!("{year}-{number:02}-{day}T{clock}+00:00");
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_threads_are_taken_and_those_of_gone_ones_too() {
        let lines = Arc::<Lines>::default();
        let (first, second) = (lines.tap(), lines.tap());
        first.write(0, |out, time| out.extend(time.common.bytes()));
        second.write(1_769_817_660_999, |out, time| out.extend(time.iso.bytes()));
        drop(second);
        assert!(lines.are_waiting() && !lines.are_waiting());
        let mut text = Vec::new();
        lines.take(&mut text);
        assert_eq!(String::from_utf8_lossy(&text), "01/Jan/1970:00:00:00 +0000\n2026-01-31T00:01:00+00:00\n");
        assert_eq!(locked(&lines.taps).len(), 1);
    }

    #[test]
    fn what_finds_the_buffer_full_is_dropped_and_counted() {
        let lines = Arc::<Lines>::default();
        let tap = lines.tap();
        for _ in 0..3 {
            tap.write(0, |out, _| out.resize(out.len() + MOST_WAITING, b'x'));
        }
        assert_eq!((lines.take_dropped(), lines.take_dropped()), (2, 0));
    }
}
