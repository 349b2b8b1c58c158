//! A chunked body: wherever it is cut, the same payload is found and the same end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_wire::parse::Chunked;
use portcullis_wire::parse::chunked::{Malformed, Piece, encode_chunk};

/// Payload, and where the body ends if it does, of a body that comes in pieces of this size.
fn read(bytes: &[u8], size: usize) -> Result<(Vec<u8>, Option<usize>), Malformed> {
    let (mut chunked, mut payload, mut used) = (Chunked::new(), Vec::new(), 0);
    for part in bytes.chunks(size) {
        used += chunked.scan(part, |piece| {
            if let Piece::Data(data) = piece {
                payload.extend_from_slice(data);
            }
        })?;
        if chunked.is_done() {
            return Ok((payload, Some(used)));
        }
    }
    Ok((payload, None))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = read(bytes, bytes.len().max(1));
    let parts = read(bytes, usize::from(size).max(1));
    assert_eq!(whole, parts, "where a body is cut changed what it says");
    assert_eq!(whole, read(bytes, 1));
    let Ok((payload, Some(end))) = whole else { return };
    assert!(end <= bytes.len() && bytes[..end].ends_with(b"\r\n"));
    // What we write ourselves reads back.
    let mut written = Vec::new();
    if !payload.is_empty() {
        encode_chunk(&mut written, &payload);
    }
    written.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(read(&written, 3), Ok((payload, Some(written.len()))));
});
