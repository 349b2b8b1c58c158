//! Hybrid deployments.

use super::Kind::{Boolean, List, Number, OneOf, Text};
use super::{Key, accepted, used};

pub const HYBRID: &[Key] = &[
    used("role", OneOf(&["data_plane", "control_plane", "traditional"]), "traditional", "Part of this node in a hybrid deployment."),
    accepted("cluster_mtls", OneOf(&["shared", "pki"]), "shared", "How nodes of a hybrid deployment trust each other."),
    accepted("cluster_cert", Text, "", "Certificate between control and data planes."),
    accepted("cluster_cert_key", Text, "", "Key of that certificate.").secret(),
    accepted("cluster_ca_cert", Text, "", "CA of that certificate."),
    accepted("cluster_server_name", Text, "", "Name the control plane's certificate is checked for."),
    accepted("cluster_control_plane", Text, "127.0.0.1:8005", "Where the control plane is."),
    accepted("cluster_listen", List, "0.0.0.0:8005", "Where a control plane listens for data planes."),
    accepted("cluster_data_plane_purge_delay", Number, "1209600", "Seconds after which a silent data plane is forgotten."),
    accepted("cluster_ocsp", OneOf(&["on", "off", "optional"]), "off", "Check data plane certificates by OCSP."),
    accepted("cluster_max_payload", Number, "16777216", "Largest message between planes, in bytes."),
    accepted("cluster_use_proxy", Boolean, "off", "Reach the control plane through `proxy_server`."),
    accepted("cluster_dp_labels", List, "", "Labels of this data plane."),
    accepted("cluster_rpc", Boolean, "off", "Use the RPC protocol between planes."),
    accepted("cluster_incremental_sync", Boolean, "off", "Send changes instead of whole configurations."),
    accepted("cluster_cjson", Boolean, "off", "Accepted for compatibility."),
    accepted("dedicated_config_processing", Boolean, "on", "Accepted for compatibility."),
    accepted("kic", Boolean, "off", "Accepted for compatibility."),
];
