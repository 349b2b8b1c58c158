#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::super::Settings;
use super::*;

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    let (loaded, complaints) = load(text, env(environment), &[]);
    assert_eq!(complaints, Complaints(Vec::new()));
    loaded
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_environment_goes_before_the_file_and_our_own_names_before_kongs() {
    let file = "log_level = info # a comment\npg_password = a\\#b\nplugins=bundled , mine\n";
    let environment = env(&[("PORTCULLIS_LOG_LEVEL", "error"), ("KONG_LOG_LEVEL", "warn"), ("KONG_DNS_STALE_TTL", "4")]);
    let loaded = load(file, environment, &[("prefix", "/tmp/x".to_owned())]).0;
    assert_eq!(loaded.text("log_level"), Some("error"));
    assert_eq!(loaded.text("pg_password"), Some("a#b"));
    assert_eq!(loaded.list("plugins"), ["bundled", "mine"]);
    assert_eq!(loaded.number("dns_stale_ttl"), Some(4.0));
    assert_eq!(loaded.text("prefix"), Some("/tmp/x"));
}

#[test]
fn every_wrong_value_is_named_at_once() {
    let complaints = load("log_level=loud\ndatabase=mysql\npg_port=x\nrole =\n", [], &[]).1.0;
    assert_eq!(
        complaints,
        [
            "log_level has an invalid value: 'loud' (debug, info, notice, warn, error, crit, alert, emerg)",
            "role has an invalid value: 'nil' (data_plane, control_plane, traditional)",
            "database has an invalid value: 'mysql' (postgres, cassandra, off, embedded)",
            "pg_port is not a number: 'x'",
        ]
    );
}

#[test]
fn what_is_ignored_is_said_once_for_each_reason() {
    let file = "nonsense = 1\nmore nonsense\nnginx_http_gzip = on\nnginx_proxy_gzip = on\nnginx_http_send_timeout = 9s\nother = 2\n";
    let loaded = loaded(file, &[("KONG_PROXY_SERVICE_HOST", "10.0.0.1")]);
    assert_eq!(
        loaded.warnings,
        [
            "line 2 of the configuration is not 'key = value' and is ignored",
            "unknown configuration properties are ignored: nonsense, other",
            "these nginx directives have no meaning here and are ignored: nginx_http_gzip, nginx_proxy_gzip",
        ]
    );
}

#[test]
fn aliases_are_quiet_and_deprecated_names_are_not() {
    let loaded = loaded("nginx_worker_processes = 2\nreal_ip_header = X-A\nprivileged_worker = off\n", &[]);
    assert_eq!(loaded.text("nginx_main_worker_processes"), Some("2"));
    assert_eq!(loaded.text("nginx_proxy_real_ip_header"), Some("X-A"));
    assert!(!loaded.flag("dedicated_config_processing"));
    assert_eq!(
        loaded.warnings,
        ["the 'privileged_worker' configuration property is deprecated, use 'dedicated_config_processing' instead"]
    );
}

#[test]
fn an_alias_in_the_environment_goes_before_the_present_name_in_the_file() {
    let loaded = loaded("nginx_main_daemon = on\n", &[("KONG_NGINX_DAEMON", "off")]);
    assert!(!loaded.flag("nginx_main_daemon"));
}

#[test]
fn an_empty_value_unsets_a_default() {
    assert_eq!(loaded("", &[("KONG_DNS_STALE_TTL", "")]).number("dns_stale_ttl"), None);
}

#[test]
fn an_unresolved_reference_names_itself_and_its_key() {
    let complaints = load("pg_password = {vault://env/not-set-anywhere}\n", [], &[]).1.0;
    assert_eq!(
        complaints,
        ["failed to dereference '{vault://env/not-set-anywhere}': could not get value from external vault (no value found) \
          for config option 'pg_password'"]
    );
}

#[test]
fn references_are_resolved_but_written_down_as_references() {
    // PATH is there wherever tests run.
    let loaded = loaded("pg_password = {vault://env/path}\n", &[]);
    assert_eq!(loaded.text("pg_password"), std::env::var("PATH").ok().as_deref());
    assert_eq!(loaded.given["pg_password"], "{vault://env/path}");
}

#[test]
fn the_innermost_block_of_a_directive_counts() {
    let loaded = loaded("nginx_http_send_timeout = 1s\nnginx_proxy_send_timeout = 2s\nnginx_location_send_timeout = NONE\n", &[]);
    assert_eq!(loaded.directive("send_timeout"), Some(("nginx_proxy_send_timeout".to_owned(), "2s")));
}

proptest! {
    #[test]
    fn any_bytes_give_settings_or_complaints(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Settings::new(load(&String::from_utf8_lossy(&bytes), [], &[]));
    }

    #[test]
    fn any_value_of_any_key_gives_settings_or_complaints_that_are_not_empty(
        pairs in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~]{0,24}|[0-9]{1,20}[smkg]?|\\{vault://[a-z/#?=]{0,9}\\}"), 1..6)
    ) {
        let names: Vec<_> = keys::all().map(|key| key.name).chain(["nginx_proxy_send_timeout", "nginx_location_proxy_buffer_size"]).collect();
        let text: String = pairs.iter().map(|(index, value)| format!("{} = {value}\n", index.get(&names))).collect();
        if let Err(Complaints(complaints)) = Settings::new(load(&text, [], &[])) {
            prop_assert!(!complaints.is_empty() && complaints.iter().all(|complaint| !complaint.is_empty()));
        }
    }
}
