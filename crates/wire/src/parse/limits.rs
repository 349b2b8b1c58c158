//! How large a request head may be: as large as fits into nginx' buffers, one of 1 KiB and four of 8 KiB.
//!
//! A line never straddles two buffers: one that does not fit into the rest of a buffer starts the next. So one line may have
//! 8 KiB, and five lines of 5 KB are already too much though they are 25 KB together.

use crate::serve::Refusal;

const FIRST_BUFFER: usize = 1024;
const LARGE_BUFFER: usize = 8192;
const LARGE_BUFFERS: usize = 4;

/// Heads up to this many bytes are never too large.
pub const ALWAYS_FITS: usize = FIRST_BUFFER;

pub(crate) const TARGET_TOO_LONG: Refusal = Refusal::new(414, "request line too long");
pub(crate) const HEADER_TOO_LARGE: Refusal = Refusal::new(494, "request header too large");

/// Packs lines into buffers.
#[derive(Default)]
struct Packing {
    used: usize,
    large_buffers: usize,
}

impl Packing {
    /// Whether another line of this length fits.
    fn add(&mut self, length: usize) -> bool {
        let size = if self.large_buffers == 0 { FIRST_BUFFER } else { LARGE_BUFFER };
        if self.used + length > size {
            if self.large_buffers == LARGE_BUFFERS || length > LARGE_BUFFER {
                return false;
            }
            self.large_buffers += 1;
            self.used = 0;
        }
        self.used += length;
        true
    }
}

/// Checks the lengths of a head's lines (with their line ends), the request line first.
pub fn check_lines(lengths: impl Iterator<Item = usize>) -> Result<(), Refusal> {
    let mut packing = Packing::default();
    for (index, length) in lengths.enumerate() {
        if !packing.add(length) {
            return Err(if index == 0 { TARGET_TOO_LONG } else { HEADER_TOO_LARGE });
        }
    }
    Ok(())
}

/// Checks the bytes of a head as far as they have come.
pub fn check_bytes(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() <= ALWAYS_FITS {
        return Ok(());
    }
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', bytes).map(|at| at + 1).chain(std::iter::once(bytes.len()));
    check_lines(ends.map(|end| end - std::mem::replace(&mut start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_may_fill_a_large_buffer_but_no_more() {
        assert_eq!(check_lines([20, 8192].into_iter()), Ok(()));
        assert_eq!(check_lines([20, 8193].into_iter()), Err(HEADER_TOO_LARGE));
        assert_eq!(check_lines([8192, 20].into_iter()), Ok(()));
        assert_eq!(check_lines([8193].into_iter()), Err(TARGET_TOO_LONG));
    }

    #[test]
    fn lines_that_leave_gaps_use_the_buffers_up() {
        assert_eq!(check_lines([20, 5000, 5000, 5000, 5000].into_iter()), Ok(()));
        assert_eq!(check_lines([20, 5000, 5000, 5000, 5000, 5000].into_iter()), Err(HEADER_TOO_LARGE));
        assert_eq!(check_lines(std::iter::once(20).chain((0..1000).map(|_| 32))), Ok(()));
    }

    #[test]
    fn an_unfinished_line_counts() {
        assert_eq!(check_bytes(&[b'a'; 8192]), Ok(()));
        assert_eq!(check_bytes(&[b'a'; 8193]), Err(TARGET_TOO_LONG));
        let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
        bytes.resize(16 + 8192, b'a');
        assert_eq!(check_bytes(&bytes), Ok(()));
        bytes.push(b'a');
        assert_eq!(check_bytes(&bytes), Err(HEADER_TOO_LARGE));
    }
}
