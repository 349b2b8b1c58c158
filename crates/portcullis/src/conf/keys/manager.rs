//! The manager and request debugging.

use super::Kind::{Boolean, List, Text};
use super::{Key, accepted, used};

pub const MANAGER: &[Key] = &[
    used("admin_gui_url", List, "", "Addresses of the manager as browsers see them."),
    accepted("admin_gui_path", Text, "/", "Path the manager is served under."),
    accepted("admin_gui_api_url", Text, "", "Address of the Admin API as browsers see it."),
    used("request_debug", Boolean, "on", "Answer request debugging headers."),
    used("request_debug_token", Text, "", "Token those headers must carry from other machines; made up at each start where none is set."),
];
