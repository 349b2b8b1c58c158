//! `kong.conf`, and the listen syntax within it: taken or refused with complaints, whatever it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::conf::{Settings, load};
use portcullis_wire::listener::parse_listens;

fuzz_target!(|text: &str| {
    // Settings may name files that are read: not devices, please.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    if let Err(complaints) = Settings::new(load::load(text, [], &[])) {
        assert!(!complaints.0.is_empty(), "refused without a complaint");
    }
    // The same text as one value, as the environment would give it.
    let variable = [("KONG_PROXY_LISTEN".to_owned(), text.to_owned())];
    let _ = Settings::new(load::load("", variable, &[]));
    if let Err(complaint) = parse_listens("proxy_listen", text) {
        assert!(complaint.contains("proxy_listen"));
    }
});
