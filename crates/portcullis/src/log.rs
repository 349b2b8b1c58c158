//! The error log: nginx-like lines, written off the threads that log.
//!
//! `2026/11/24 12:00:00 [warn] 42#7: upstream failed, upstream: 10.0.0.1:80` — lines go through a bounded queue to one writer
//! thread; when the queue is full a line is dropped and counted, and the count is logged as soon as there is room.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// Lines that may wait for the writer.
const QUEUE: usize = 4096;

enum Message {
    Line(String),
    /// Open the file anew (log rotation).
    Reopen,
    Stop,
}

/// Keeps the writer alive; dropping it writes what is queued and ends it.
pub struct Log {
    queue: SyncSender<Message>,
    writer: Option<JoinHandle<()>>,
    level: reload::Handle<LevelFilter, Registry>,
}

/// Starts logging to a file (or to standard error) at one of Kong's levels. Call once.
pub fn start(file: Option<&Path>, level: &str) -> io::Result<Log> {
    let (queue, lines) = sync_channel(QUEUE);
    let target = match file {
        Some(path) => Target::File(path.to_owned(), open(path)?),
        None => Target::Stderr,
    };
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(target, &lines))?;
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let lines = Lines { queue: queue.clone(), dropped: Arc::default(), pid: std::process::id() };
    let subscriber = Registry::default().with(filter).with(lines);
    // A second subscriber can only come from a second call, which is a mistake of ours that tests would show.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(Log { queue, writer: Some(writer), level: handle })
}

impl Log {
    /// Changes the level while running.
    pub fn set_level(&self, level: &str) {
        let _ = self.level.reload(filter_of(level));
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        let _ = self.queue.try_send(Message::Reopen);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.queue.send(Message::Stop);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Kong's eight levels onto five: what is above `error` there is an error here.
fn filter_of(level: &str) -> LevelFilter {
    match level {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        // Kong's `notice` lies between info and warn; our start and stop lines are warn-free infos below it.
        "notice" | "warn" => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    }
}

enum Target {
    Stderr,
    File(PathBuf, File),
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_lines(mut target: Target, lines: &Receiver<Message>) {
    for message in lines {
        match message {
            // A log that cannot be written has nowhere to say so.
            Message::Line(line) => {
                let _ = match &mut target {
                    Target::Stderr => io::stderr().write_all(line.as_bytes()),
                    Target::File(_, file) => file.write_all(line.as_bytes()),
                };
            }
            Message::Reopen => {
                if let Target::File(path, file) = &mut target
                    && let Ok(fresh) = open(path)
                {
                    *file = fresh;
                }
            }
            Message::Stop => return,
        }
    }
}

struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    pid: u32,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut text = Text::default();
        event.record(&mut text);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut line = String::with_capacity(96);
        let _ = write!(line, "{} [{level}] {}#0: {}{}", Timestamp(now), self.pid, text.message, text.fields);
        line.push('\n');
        let lost = self.dropped.load(Ordering::Relaxed);
        if lost > 0
            && self.queue.try_send(Message::Line(format!("{} [warn] {}#0: {lost} log lines dropped\n", Timestamp(now), self.pid))).is_ok()
        {
            self.dropped.fetch_sub(lost, Ordering::Relaxed);
        }
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn put(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let _ = match name {
            "message" => self.message.write_fmt(value),
            _ => write!(self.fields, ", {name}: {value}"),
        };
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), format_args!("{value}"));
    }
}

/// Seconds since the epoch as `YYYY/MM/DD HH:MM:SS`, UTC.
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil(days as i64);
        write!(f, "{year:04}/{month:02}/{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, counted in 400-year eras from 1 March 0000.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * month_index + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_nginx_writes_them() {
        assert_eq!(Timestamp(0).to_string(), "1970/01/01 00:00:00");
        assert_eq!(Timestamp(951_827_696).to_string(), "2000/02/29 12:34:56");
        assert_eq!(Timestamp(1_795_521_599).to_string(), "2026/11/24 11:59:59");
    }
}
