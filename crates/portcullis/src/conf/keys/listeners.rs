//! Where clients connect, and the TLS they speak.

use super::Kind::{Boolean, List, OnOff, OneOf, Text};
use super::{Key, accepted, used};

pub const LISTENERS: &[Key] = &[
    used(
        "proxy_listen",
        List,
        "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        "Where clients connect; `quic` beside `ssl` adds HTTP/3 on the same port.",
    ),
    used("stream_listen", List, "off", "Where TCP, TLS (`ssl`) and UDP (`udp`) clients connect."),
    used(
        "admin_listen",
        List,
        "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 http2 ssl reuseport backlog=16384",
        "Where the Admin API listens.",
    ),
    accepted("admin_gui_listen", List, "0.0.0.0:8002, 0.0.0.0:8445 ssl", "Where the manager listens."),
    used("status_listen", List, "127.0.0.1:8007 reuseport backlog=16384", "Where the Status API listens."),
];

pub const TLS: &[Key] = &[
    used("ssl_cert", List, "", "Certificates shown to clients without a matching SNI; paths or PEM."),
    used("ssl_cert_key", List, "", "Keys of those certificates.").secret(),
    used("admin_ssl_cert", List, "", "Certificates of the Admin API."),
    used("admin_ssl_cert_key", List, "", "Their keys.").secret(),
    accepted("admin_gui_ssl_cert", List, "", "Certificates of the manager."),
    accepted("admin_gui_ssl_cert_key", List, "", "Their keys.").secret(),
    used("status_ssl_cert", List, "", "Certificates of the Status API."),
    used("status_ssl_cert_key", List, "", "Their keys.").secret(),
    used("client_ssl", Boolean, "off", "Show a certificate to upstreams."),
    used("client_ssl_cert", Text, "", "That certificate."),
    used("client_ssl_cert_key", Text, "", "Its key.").secret(),
    used(
        "ssl_cipher_suite",
        OneOf(&["modern", "intermediate", "old", "fips", "custom"]),
        "intermediate",
        "Which TLS versions and ciphers are offered.",
    ),
    used("ssl_ciphers", Text, "", "Ciphers of the `custom` suite, for TLS 1.2."),
    used("ssl_protocols", Text, "TLSv1.2 TLSv1.3", "TLS versions of the `custom` suite."),
    accepted("ssl_prefer_server_ciphers", OnOff, "on", "Accepted for compatibility: the client chooses among safe ciphers."),
    accepted("ssl_dhparam", Text, "", "Accepted for compatibility: no finite-field key exchange is offered."),
    used("ssl_session_tickets", OnOff, "on", "Let clients resume TLS sessions."),
    accepted("ssl_session_timeout", Text, "1d", "Accepted for compatibility."),
    accepted("ssl_session_cache_size", Text, "10m", "Accepted for compatibility."),
];
