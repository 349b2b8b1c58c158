//! What health checks over TLS trust and show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_proxy::balancer::{LazyProbeTls, ProbeTls};
use portcullis_wire::tls::{UpstreamConfigs, certified_key};
use tracing::warn;

use crate::conf::Settings;
use crate::conf::shown::SYSTEM_BUNDLES;

/// How probes over TLS check targets: against `lua_ssl_trusted_certificate`, with `client_ssl_cert` shown where it is set.
pub fn tls(settings: &Settings) -> LazyProbeTls {
    let files: Vec<String> = settings.loaded.list("lua_ssl_trusted_certificate").into_iter().map(str::to_owned).collect();
    let pair = |key: &str| settings.loaded.text(key).map(PathBuf::from);
    let client = pair("client_ssl_cert").zip(pair("client_ssl_cert_key")).filter(|_| settings.loaded.flag("client_ssl"));
    LazyProbeTls::new(Box::new(move || {
        let read = |path: &Path| std::fs::read_to_string(path).inspect_err(|error| warn!(%error, path = %path.display(), "not read")).ok();
        let places =
            files.iter().map(String::as_str).filter_map(|file| if file == "system" { system_bundle() } else { Some(Path::new(file)) });
        let roots: Vec<Arc<str>> = places.filter_map(read).map(Into::into).collect();
        let client = client.and_then(|(certificate, key)| certified_key(&read(&certificate)?, &read(&key)?).ok());
        let configs = UpstreamConfigs::new();
        let made = |verify: bool, roots: &[Arc<str>]| configs.for_service(verify, None, roots, client.clone()).config.clone();
        ProbeTls { verifying: made(true, &roots), trusting: made(false, &[]) }
    }))
}

fn system_bundle() -> Option<&'static Path> {
    SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.is_file())
}
