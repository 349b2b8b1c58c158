//! What is in the file.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use portcullis_plugin::testing::{TestRequest, env, exchange, plugin_in};
use portcullis_plugin::{Env, Handler, Instance, ResponseHead};
use serde_json::{Value, json};

use super::FileLog;
use crate::queue::{Counts, drain};

fn file_log(env: &Env, path: &Path, reopen: bool) -> FileLog {
    plugin_in(json!({ "path": path, "reopen": reopen }), &Instance::default(), env)
}

fn log(plugin: &FileLog, target: &str) {
    plugin.log(&exchange(&TestRequest::get(target).build(), &ResponseHead::new(200)));
}

/// The paths told in a file.
fn targets(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let record = |line: &str| serde_json::from_str::<Value>(line).unwrap()["request"]["uri"].as_str().unwrap().to_owned();
    text.lines().map(record).collect()
}

/// Waits until so many records have been written.
fn written(env: &Env, count: u64) {
    while env.state.get::<Counts>().figures().iter().map(|figures| figures.sent + figures.lost).sum::<u64>() < count {
        std::thread::yield_now();
    }
}

#[test]
fn records_are_lines_at_the_end_of_the_file() {
    let (env, directory) = (env(), tempfile::tempdir().unwrap());
    let path = directory.path().join("access.json");
    let plugin = file_log(&env, &path, false);
    log(&plugin, "/one");
    log(&plugin, "/two");
    env.runtime.block_on(drain::drain(&env, Duration::from_secs(60)));
    assert_eq!(targets(&path), ["/one", "/two"]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o133, 0);
}

#[test]
fn a_file_that_was_moved_away_is_written_on_unless_it_is_to_be_reopened() {
    for reopen in [false, true] {
        let (env, directory) = (env(), tempfile::tempdir().unwrap());
        let (path, moved) = (directory.path().join("now"), directory.path().join("before"));
        let plugin = file_log(&env, &path, reopen);
        log(&plugin, "/one");
        written(&env, 1);
        std::fs::rename(&path, &moved).unwrap();
        log(&plugin, "/two");
        written(&env, 2);
        if reopen {
            assert_eq!((targets(&moved), targets(&path)), (vec!["/one".to_owned()], vec!["/two".to_owned()]));
        } else {
            assert_eq!(targets(&moved), ["/one", "/two"]);
            assert!(!path.exists());
        }
    }
}

#[test]
fn what_cannot_be_written_is_counted_as_lost() {
    let (env, directory) = (env(), tempfile::tempdir().unwrap());
    log(&file_log(&env, &directory.path().join("absent/file"), false), "/one");
    written(&env, 1);
    assert_eq!(env.state.get::<Counts>().figures()[0].lost, 1);
}
