//! A request head, whatever bytes come: it is read, refused or waited for, and what was read has one meaning only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_wire::head::{Framing, RequestHead, Version};
use portcullis_wire::parse::{Parsed, parse_request};

fuzz_target!(|bytes: &[u8]| {
    let mut head = RequestHead::default();
    let Ok(Parsed::Complete(length)) = parse_request(bytes, &mut head) else { return };
    assert!(length <= bytes.len());
    // Empty lines ahead of a request are passed over (RFC 9112 section 2.2), bare line feeds too, as nginx does.
    let raw = bytes[..length].trim_ascii_start();
    let length = raw.len();
    assert!(raw.ends_with(b"\r\n\r\n"), "a head ends with an empty line");
    assert!(!raw.contains(&0), "NUL passed");
    for (at, &byte) in raw.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(raw.get(at + 1), Some(&b'\n'), "a bare CR passed"),
            b'\n' => assert_eq!(raw.get(at.wrapping_sub(1)), Some(&b'\r'), "a bare LF passed"),
            _ => {}
        }
    }
    assert!(head.target().starts_with(b"/"), "a target without a slash passed");
    let (lengths, codings) = (head.headers.get_all("content-length").count(), head.headers.get_all("transfer-encoding").count());
    assert!(lengths + codings <= 1, "two framings passed");
    match head.framing {
        Framing::Chunked => assert_eq!((codings, head.version), (1, Version::Http11)),
        Framing::Length(length) => assert!(lengths == 1 || length == 0),
        _ => assert!(codings == 0, "a coding was passed over"),
    }

    // The same head, however it is cut, is never read as another, shorter one.
    let mut again = RequestHead::default();
    for cut in [length / 3, length / 2, length - 1] {
        assert!(!matches!(parse_request(&raw[..cut], &mut again), Ok(Parsed::Complete(_))), "a part was read as a whole");
    }
    // What follows it changes nothing.
    assert!(matches!(parse_request(raw, &mut again), Ok(Parsed::Complete(same)) if same == length));
    assert_eq!((head.target(), head.method_text(), head.framing), (again.target(), again.method_text(), again.framing));
});
