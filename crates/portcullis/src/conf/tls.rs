//! How TLS is spoken, from `ssl_*`, `client_ssl_*` and the directives of nginx that concern it.

use std::path::Path;
use std::sync::Arc;

use portcullis_wire::listener::Listen;
use portcullis_wire::tls::{self, CertifiedKey, Ciphers, ClientCertificates, ServerTlsOptions, UpstreamDefaults};

use super::reader::Reader;

/// Where systems keep the certificates they trust.
pub const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's bundle, where it has one.
pub fn system_bundle() -> Option<&'static str> {
    SYSTEM_BUNDLES.into_iter().find(|path| Path::new(path).is_file())
}

impl Reader<'_> {
    /// Towards clients. A suite other than `custom` decides on versions and ciphers by itself, as in Kong.
    pub fn server_tls(&mut self, proxy_listens: &[Listen]) -> ServerTlsOptions {
        let loaded = self.loaded;
        let (mut tls12, mut tls13) = (true, true);
        let mut ciphers = Ciphers::All;
        match loaded.text("ssl_cipher_suite") {
            Some("modern") => tls12 = false,
            Some("fips") => tls13 = false,
            Some("custom") => {
                let protocols: Vec<&str> = loaded.text("ssl_protocols").unwrap_or_default().split_whitespace().collect();
                (tls12, tls13) = (protocols.contains(&"TLSv1.2"), protocols.contains(&"TLSv1.3"));
                if !tls12 && !tls13 {
                    self.complaints.push("ssl_protocols must name TLSv1.2 or TLSv1.3: older versions are not spoken".to_owned());
                }
                if let Some(list) = loaded.text("ssl_ciphers") {
                    ciphers = Ciphers::List(list.to_owned());
                }
            }
            _ => {}
        }
        if !tls13 && proxy_listens.iter().any(|listen| listen.quic) {
            self.complaints.push("proxy_listen: quic needs TLSv1.3, which ssl_cipher_suite and ssl_protocols leave out".to_owned());
        }
        let client_certificates = self.client_certificates();
        ServerTlsOptions { http2: true, tls12, tls13, session_tickets: loaded.flag("ssl_session_tickets"), ciphers, client_certificates }
    }

    /// `ssl_verify_client` and `ssl_client_certificate`.
    fn client_certificates(&mut self) -> ClientCertificates {
        let Some((key, mode)) = self.loaded.directive("ssl_verify_client") else { return ClientCertificates::Never };
        let mode = mode.to_owned();
        let roots = match self.loaded.directive("ssl_client_certificate") {
            Some((key, path)) => {
                let path = path.to_owned();
                self.pem(&key, &path)
            }
            None => None,
        };
        match (mode.as_str(), roots) {
            ("off", _) => ClientCertificates::Never,
            ("optional_no_ca", _) => ClientCertificates::Unverified,
            ("on", Some(roots)) => ClientCertificates::Required(roots),
            ("optional", Some(roots)) => ClientCertificates::Optional(roots),
            ("on" | "optional", None) => {
                self.complaints.push(format!("{key} = {mode} needs ssl_client_certificate"));
                ClientCertificates::Never
            }
            _ => {
                self.complaints.push(format!("{key} has an invalid value: '{mode}' (on, off, optional, optional_no_ca)"));
                ClientCertificates::Never
            }
        }
    }

    /// Towards upstreams, for services that say nothing themselves.
    pub fn upstream_tls(&mut self) -> UpstreamDefaults {
        let directive = |name: &str| self.loaded.directive(name).map(|(key, value)| (key, value.to_owned()));
        let (verify, depth) = (directive("proxy_ssl_verify"), directive("proxy_ssl_verify_depth"));
        let roots = directive("proxy_ssl_trusted_certificate");
        UpstreamDefaults {
            verify: verify.is_some_and(|(_, value)| value == "on"),
            depth: depth.and_then(|(_, value)| value.parse().ok()),
            roots: roots.and_then(|(key, path)| self.pem(&key, &path)).map(Arc::from),
            client: self.client_key(),
        }
    }

    /// The certificate shown to upstreams (`client_ssl`).
    fn client_key(&mut self) -> Option<Arc<CertifiedKey>> {
        if !self.loaded.flag("client_ssl") {
            return None;
        }
        let pair = self.certificate("client_ssl_cert", "client_ssl_cert_key");
        let Some(pair) = pair else {
            if self.loaded.text("client_ssl_cert").is_none() {
                self.complaints.push("client_ssl_cert must be specified".to_owned());
            }
            return None;
        };
        tls::certified_key(&pair.certificate, &pair.key).inspect_err(|error| self.complaints.push(format!("client_ssl_cert: {error}"))).ok()
    }

    /// The certificates that `lua_ssl_trusted_certificate` names, as PEM: whom active health checks trust.
    pub fn trusted(&mut self) -> Vec<Arc<str>> {
        let mut trusted = Vec::new();
        for entry in self.loaded.list("lua_ssl_trusted_certificate") {
            if entry == "system" {
                trusted.extend(system_bundle().and_then(|path| std::fs::read_to_string(path).ok()).map(Arc::from));
            } else if let Some(pem) = self.pem("lua_ssl_trusted_certificate", entry) {
                trusted.push(pem.into());
            }
        }
        trusted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::load::load;
    use super::super::settings::Settings;
    use super::*;

    #[test]
    fn only_the_custom_suite_looks_at_protocols_and_ciphers() {
        let of = |text: &str| Settings::new(load(text, [], &[])).unwrap().tls;
        let given = "ssl_protocols = TLSv1.2\nssl_ciphers = ECDHE-RSA-AES128-GCM-SHA256\n";
        assert!(of(given).tls13);
        let custom = of(&format!("ssl_cipher_suite = custom\n{given}"));
        assert!(custom.tls12 && !custom.tls13 && custom.ciphers != Ciphers::All);
        assert!(!of("ssl_cipher_suite = modern\n").tls12);
        assert!(Settings::new(load("ssl_cipher_suite = custom\nssl_protocols = TLSv1\n", [], &[])).is_err());
    }

    #[test]
    fn quic_needs_the_tls_it_is_made_of() {
        let listen = "proxy_listen = 127.0.0.1:8443 ssl quic\n";
        assert!(Settings::new(load(listen, [], &[])).is_ok());
        let complaints = Settings::new(load(&format!("{listen}ssl_cipher_suite = fips\n"), [], &[])).unwrap_err().0;
        assert_eq!(complaints, ["proxy_listen: quic needs TLSv1.3, which ssl_cipher_suite and ssl_protocols leave out"]);
    }

    #[test]
    fn clients_are_asked_for_certificates_only_with_roots_to_check_them_by() {
        let of = |text: &str| Settings::new(load(text, [], &[]));
        assert!(of("nginx_proxy_ssl_verify_client = on\n").is_err());
        assert!(of("nginx_proxy_ssl_verify_client = perhaps\n").is_err());
        assert_eq!(of("nginx_proxy_ssl_verify_client = optional_no_ca\n").unwrap().tls.client_certificates, ClientCertificates::Unverified);
    }
}
