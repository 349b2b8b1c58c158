//! The program under test: built once a test run, and held fast so that a build of another clone can't swap it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The program's path. The first call builds it in the profile of the tests.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<(PathBuf, tempfile::TempDir)> = OnceLock::new();
    &PROGRAM.get_or_init(build).0
}

fn build() -> (PathBuf, tempfile::TempDir) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // All binaries at once, as `make test` builds them: the same features, so nothing is compiled twice.
    let output = Command::new(cargo)
        .args(["build", "--workspace", "--bins", "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the program does not build");
    let built = String::from_utf8(output.stdout).unwrap();
    let built = built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|message| {
        let ours = message["target"]["name"] == "portcullis" && message["target"]["kind"][0] == "bin";
        ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    let built = built.expect("cargo says where the program is");
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("portcullis");
    if std::fs::hard_link(&built, &held).is_err() {
        std::fs::copy(&built, &held).unwrap();
    }
    (held, folder)
}

/// A command of the program without any of the caller's gateway settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KONG_") || text.starts_with("PORTCULLIS_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the program with arguments and settings (environment) until it ends.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command().args(arguments).envs(environment.iter().copied()).output().unwrap()
}
