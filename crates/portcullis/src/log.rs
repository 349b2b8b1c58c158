//! The error log: nginx-like lines, written off the threads that log.
//!
//! `2026/11/24 12:00:00 [warn] 42#7: upstream failed, upstream: 10.0.0.1:80` — lines go through a bounded queue to one writer
//! thread; when the queue is full a line is dropped and counted, and the count is logged as soon as there is room.
//!
//! Kong has eight levels, tracing five: the others are targets. `info!(target: NOTICE, "serving")` is a notice.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_plugin::log_lines::{self, Details};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// Lines that may wait for the writer.
const QUEUE: usize = 4096;

/// Targets of the levels that tracing does not have: `NOTICE` with `info!`, the others with `error!`.
pub const NOTICE: &str = "notice";
pub const CRIT: &str = "crit";
pub const ALERT: &str = "alert";
pub const EMERG: &str = "emerg";

/// Kong's levels, gravest first: a level's place is its severity, as nginx and syslog count it.
const LEVELS: [&str; 8] = [EMERG, ALERT, CRIT, "error", "warn", NOTICE, "info", "debug"];

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
    threshold: Arc<AtomicU8>,
}

/// Starts logging to a file (or to standard error) at one of Kong's levels. Call once.
pub fn start(file: Option<&Path>, level: &str) -> io::Result<Log> {
    let (queue, lines) = sync_channel(QUEUE);
    let target = match file {
        Some(path) => Target::File(path.to_owned(), open(path)?),
        None => Target::Stderr,
    };
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(target, &lines))?;
    let (filter, handle) = reload::Layer::new(filter_of(severity(level)));
    let threshold = Arc::new(AtomicU8::new(severity(level)));
    let lines = Lines { queue: queue.clone(), dropped: AtomicU64::new(0), pid: std::process::id(), threshold: threshold.clone() };
    let subscriber = Registry::default().with(filter).with(lines);
    // A second subscriber can only come from a second call, which is a mistake of ours that tests would show.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(Log { queue, writer: Some(writer), level: handle, threshold })
}

impl Log {
    /// Changes the level while running.
    pub fn set_level(&self, level: &str) {
        self.threshold.store(severity(level), Ordering::Relaxed);
        let _ = self.level.reload(filter_of(severity(level)));
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

fn severity(level: &str) -> u8 {
    LEVELS.iter().position(|known| *known == level).map_or(5, |place| place as u8)
}

/// What has to be looked at closer: events below are refused before their fields are evaluated.
fn filter_of(severity: u8) -> LevelFilter {
    match severity {
        0..=3 => LevelFilter::ERROR,
        4 => LevelFilter::WARN,
        5 | 6 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    }
}

fn severity_of(metadata: &Metadata<'_>) -> u8 {
    match (*metadata.level(), metadata.target()) {
        (Level::ERROR, EMERG | ALERT | CRIT) | (Level::INFO, NOTICE) => severity(metadata.target()),
        (Level::ERROR, _) => 3,
        (Level::WARN, _) => 4,
        (Level::INFO, _) => 6,
        _ => 7,
    }
}

enum Target {
    Stderr,
    File(PathBuf, File),
}

/// Opens a file to append to, making its folder.
pub fn open(path: &Path) -> io::Result<File> {
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
    dropped: AtomicU64,
    pid: u32,
    threshold: Arc<AtomicU8>,
}

impl Lines {
    fn line(&self, severity: u8, text: fmt::Arguments<'_>) -> String {
        let mut line = String::with_capacity(128);
        let _ = write!(line, "{} [{}] {}#{}: {text}", Timestamp::now(), LEVELS[usize::from(severity)], self.pid, thread_id());
        // One event is one line: what comes from clients must not make up others.
        if line.contains(char::is_control) {
            line = line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect();
        }
        line.push('\n');
        line
    }
}

/// The kernel's number of this thread, asked once.
fn thread_id() -> i32 {
    thread_local!(static ID: i32 = rustix::thread::gettid().as_raw_nonzero().get());
    ID.with(|id| *id)
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = severity_of(event.metadata());
        if severity > self.threshold.load(Ordering::Relaxed) {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        // A severity is one below nginx' number.
        log_lines::tell(severity + 1, || details(event.metadata(), &text));
        let lost = self.dropped.load(Ordering::Relaxed);
        if lost > 0 && self.queue.try_send(Message::Line(self.line(4, format_args!("{lost} log lines dropped")))).is_ok() {
            self.dropped.fetch_sub(lost, Ordering::Relaxed);
        }
        let line = self.line(severity, format_args!("{}{}", text.message, text.fields));
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is told of a line beside its level: where it comes from, in the words that Kong has for its Lua code.
fn details(metadata: &Metadata<'_>, text: &Text) -> Details {
    let place = metadata.line().map(|line| ("introspection.current.line".into(), f64::from(line).into()));
    let module = metadata.module_path().map(|module| ("introspection.source".into(), module.into()));
    Details { text: format!("{}{}", text.message, text.fields), attributes: place.into_iter().chain(module).collect() }
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

impl Timestamp {
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil(days as i64);
        write!(f, "{year:04}/{month:02}/{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, counted in 400-year eras from 1 March 0000.
pub fn civil(days: i64) -> (i64, i64, i64) {
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_written_as_nginx_writes_them() {
        assert_eq!(Timestamp(0).to_string(), "1970/01/01 00:00:00");
        assert_eq!(Timestamp(951_827_696).to_string(), "2000/02/29 12:34:56");
        assert_eq!(Timestamp(1_795_521_599).to_string(), "2026/11/24 11:59:59");
    }

    /// The one test that logs: the subscriber is the process's.
    #[test]
    fn lines_have_their_level_and_nothing_below_the_threshold_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/error.log");
        let log = start(Some(&path), "notice").unwrap();
        tracing::info!(target: NOTICE, port = 8000, "serving");
        tracing::info!("not written");
        tracing::error!(target: CRIT, "on fire");
        tracing::warn!(path = %"/a\nb", "odd");
        log.set_level("debug");
        tracing::debug!("seen");
        log.set_level("crit");
        tracing::error!("not written");
        log.reopen();
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().filter_map(|line| line.get(20..)).collect();
        let expected = ["[notice]", "[crit]", "[warn]", "[debug]"];
        assert_eq!(lines.len(), expected.len(), "{text}");
        for (line, level) in lines.iter().zip(expected) {
            assert!(line.starts_with(level), "{line}");
        }
        assert!(lines[0].contains(&format!("{}#", std::process::id())) && lines[0].ends_with(": serving, port: 8000"));
        assert!(lines[2].ends_with(r": odd, path: /a\nb"), "{}", lines[2]);
    }
}
