//! The access logs' files: a thread each, which writes what the [lines](Lines) of proxy or API have gathered.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use portcullis_plugins::queue::Count;
use portcullis_proxy::access_log::{Format, Lines};
use tracing::{error, warn};

use crate::log;

/// Under load the writer looks this often; the first line after a pause is written at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Where an access log goes and what its lines say (`proxy_access_log` and its like).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub path: PathBuf,
    pub format: Arc<Format>,
}

impl Settings {
    /// Reads `off`, a path, or a path and the name of a format. Other parameters of nginx' directive (`buffer=`, `flush=`)
    /// change nothing: lines are gathered anyway.
    ///
    /// Errors when the format has no such name, or the log is none we can write.
    pub fn read(prefix: &Path, value: &str, own_formats: &[(String, Format)]) -> Result<Option<Self>, String> {
        let mut words = value.split_whitespace();
        let path = words.next().unwrap_or("off");
        if path == "off" {
            return Ok(None);
        }
        if path.starts_with("syslog:") {
            return Err("access logs are written to files only; the plugin syslog tells a syslog daemon".to_owned());
        }
        let name = words.find(|word| !word.contains('=')).unwrap_or("kong_log_format");
        let own = own_formats.iter().find(|(own, _)| own == name).map(|(_, format)| format.clone());
        let format = own.or_else(|| Format::named(name)).ok_or_else(|| format!("unknown log format \"{name}\""))?;
        Ok(Some(Self { path: prefix.join(path), format: Arc::new(format) }))
    }
}

/// A log and its writer. Dropping it writes what waits and ends it.
pub struct AccessLog {
    pub lines: Arc<Lines>,
    orders: Arc<Orders>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Orders {
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl AccessLog {
    /// Opens the file, making its folder, and starts the writer. `count` is told of lines written and dropped.
    pub fn start(path: &Path, count: Arc<Count>) -> io::Result<Self> {
        let file = log::open(path)?;
        let (lines, orders) = (Arc::<Lines>::default(), Arc::<Orders>::default());
        let mut writer = Writer { path: path.to_owned(), file, lines: lines.clone(), orders: orders.clone(), count, failing: false };
        let writer = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(Self { lines, orders, writer: Some(writer) })
    }

    /// Opens the file anew, after it was moved away.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(writer) = &self.writer {
            writer.thread().unpark();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    lines: Arc<Lines>,
    orders: Arc<Orders>,
    count: Arc<Count>,
    /// The operator knows that the file cannot be written.
    failing: bool,
}

impl Writer {
    fn run(&mut self) {
        self.lines.adopt_writer();
        let mut text = Vec::new();
        loop {
            // Read before the lines are taken: what was written before the order still goes out.
            let stopping = self.orders.stop.load(Ordering::Acquire);
            if self.orders.reopen.swap(false, Ordering::AcqRel) {
                self.reopen(&mut text);
            }
            if self.lines.are_waiting() || stopping {
                self.write(&mut text);
                if !stopping {
                    std::thread::sleep(PAUSE);
                }
            } else {
                std::thread::park();
            }
            if stopping {
                return;
            }
        }
    }

    fn reopen(&mut self, text: &mut Vec<u8>) {
        self.write(text);
        match log::open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => error!(%error, path = %self.path.display(), "an access log cannot be opened anew"),
        }
    }

    fn write(&mut self, text: &mut Vec<u8>) {
        self.lines.take(text);
        let count = text.iter().filter(|byte| **byte == b'\n').count();
        match self.file.write_all(text) {
            Ok(()) => {
                self.failing = false;
                self.count.sent(count);
            }
            Err(error) => {
                self.count.lost(count);
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, path = %self.path.display(), "an access log cannot be written");
                }
            }
        }
        text.clear();
        text.shrink_to(1 << 20);
        let dropped = self.lines.take_dropped();
        if dropped > 0 {
            self.count.lost(dropped as usize);
            warn!(dropped, path = %self.path.display(), "access log lines dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn lines_reach_the_file_also_after_it_was_moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("logs/access.log"), directory.path().join("moved"));
        let log = AccessLog::start(&path, Arc::default()).unwrap();
        let tap = log.lines.tap();
        tap.write(0, |out, _| out.extend(b"one"));
        while read(&path).is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        tap.write(0, |out, _| out.extend(b"two"));
        drop(log);
        assert_eq!((read(&moved), read(&path)), ("one\n".to_owned(), "two\n".to_owned()));
    }

    #[test]
    fn settings_are_a_path_and_perhaps_a_format() {
        let own = [("mine".to_owned(), Format::named("json").unwrap())];
        let read = |value: &str| Settings::read(Path::new("/srv"), value, &own);
        assert_eq!(read("off"), Ok(None));
        assert_eq!(read("logs/a.log").unwrap().unwrap().path, Path::new("/srv/logs/a.log"));
        let named = read("/dev/stdout buffer=8k mine flush=1s").unwrap().unwrap();
        assert_eq!((named.path, named.format), ("/dev/stdout".into(), Arc::new(own[0].1.clone())));
        assert!(read("a.log other").is_err() && read("syslog:server=x").is_err());
    }
}
