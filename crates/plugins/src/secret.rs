//! Secrets: hashes to keep instead of them, and comparisons that take as long whether they fail early or late.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Bytes as lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// Whether two secrets are the same. Only their lengths can be told from the time it takes.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Undoes base64 as Kong does: padding may be missing, and what stands behind it is not looked at.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    static ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    decode(&ENGINE, text)
}

/// The same for the alphabet that goes into URLs.
pub fn base64_url(text: &[u8]) -> Option<Vec<u8>> {
    static ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    decode(&ENGINE, text)
}

fn decode(engine: &GeneralPurpose, text: &[u8]) -> Option<Vec<u8>> {
    let text = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for text in [&b"YW4="[..], b"YW4", b"YW4=YW4"] {
            assert_eq!(base64(text).as_deref(), Some(&b"an"[..]));
        }
        assert_eq!(base64(b"!!!"), None);
        assert_eq!((base64(b"__8"), base64_url(b"__8")), (None, Some(vec![0xff, 0xff])));
    }

    #[test]
    fn bytes_are_spelled_in_lower_case() {
        assert_eq!(hex(&[0x00, 0xaf, 0x9]), "00af09");
    }
}
