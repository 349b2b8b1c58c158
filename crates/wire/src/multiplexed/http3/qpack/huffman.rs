//! The Huffman code of field strings (RFC 7541 appendix B), which QPACK has from HPACK.
//!
//! The code is canonical: it follows from how many bits each symbol takes. Shorter codes come first, equally long ones in the
//! symbols' order.

use super::Unreadable;

/// Bits of each byte's code, and of the end of a string, which is never sent.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10,
    10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6,
    7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23,
    21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27,
    26, 30,
];
const END: u16 = 256;
const LONGEST: usize = 30;
const SHORTEST: usize = 5;

struct Code {
    /// The first code of each length, as a number of so many bits.
    first: [u32; LONGEST + 1],
    /// How many codes there are of each length, and where their symbols begin.
    count: [u32; LONGEST + 1],
    offset: [u32; LONGEST + 1],
    symbols: [u16; LENGTHS.len()],
}

const CODE: Code = {
    let mut code = Code { first: [0; LONGEST + 1], count: [0; LONGEST + 1], offset: [0; LONGEST + 1], symbols: [0; LENGTHS.len()] };
    let (mut next, mut taken, mut length) = (0, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.offset[length] = taken;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[taken as usize] = symbol as u16;
                taken += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.count[length] = taken - code.offset[length];
        length += 1;
    }
    code
};

/// The string behind `coded`. Errors when its end is not what fills the last byte: ones, seven of them at most.
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, Unreadable> {
    static TABLE: Code = CODE;
    let mut text = Vec::with_capacity(coded.len() * 8 / SHORTEST);
    // The next bits, from the top down.
    let (mut bits, mut held) = (0u64, 0);
    let mut rest = coded.iter();
    loop {
        while held <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let found = (SHORTEST..=LONGEST.min(held)).find_map(|length| {
            let place = ((bits >> (64 - length)) as u32).checked_sub(TABLE.first[length])?;
            (place < TABLE.count[length]).then(|| (length, TABLE.symbols[(TABLE.offset[length] + place) as usize]))
        });
        match found {
            Some((_, END)) => return Err(Unreadable::Broken),
            Some((length, symbol)) => {
                text.push(symbol as u8);
                bits <<= length;
                held -= length;
            }
            None if held < 8 && bits == !(u64::MAX >> held) => return Ok(text),
            None => return Err(Unreadable::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard_are_read() {
        // RFC 7541 appendix C.4.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&coded).as_deref(), Ok(b"www.example.com".as_slice()));
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(), Ok(b"no-cache".as_slice()));
        assert_eq!(decode(&[]).as_deref(), Ok(b"".as_slice()));
    }

    #[test]
    fn padding_is_ones_and_shorter_than_a_byte() {
        // "0" is 00000.
        assert_eq!(decode(&[0b0000_0111]).as_deref(), Ok(b"0".as_slice()));
        assert_eq!(decode(&[0b0000_0110]), Err(Unreadable::Broken));
        assert_eq!(decode(&[0b0000_0111, 0xff]), Err(Unreadable::Broken));
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), Err(Unreadable::Broken), "the end of a string is not sent");
    }
}
