//! Lua's patterns, matched so that the time limit holds.
//!
//! LuaJIT's own matcher is quicker, but backtracks without asking anybody: a pattern of a few repetitions keeps a worker busy
//! for hours. `lua/guard.lua` sends here what could take long, and everything else there.

use crate::state::expired;

/// Captures that a pattern may have (LuaJIT's own limit).
const CAPTURES: usize = 32;
/// How deep matches may nest (LuaJIT's own limit).
const DEPTH: usize = 200;
/// Steps between two looks at the clock.
const STRIDE: u32 = 4096;

/// What a capture holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// From where to where, in bytes.
    Text(usize, usize),
    /// `()`: a place, from zero.
    Place(usize),
}

/// A match: from where to where, in bytes, and its captures.
#[derive(Debug, PartialEq, Eq)]
pub struct Match {
    pub from: usize,
    pub to: usize,
    pub captures: Vec<Capture>,
}

#[derive(Clone, Copy)]
enum Held {
    Open(usize),
    Text(usize, usize),
    Place(usize),
}

struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Held>,
    depth: usize,
    steps: u32,
}

type Found = Result<Option<usize>, &'static str>;

const MALFORMED_CLASS: &str = "malformed pattern (missing ']')";
const MALFORMED_END: &str = "malformed pattern (ends with '%')";
const TOO_LONG: &str = "code ran for too long";

/// The first match at or behind `start`. Errors in Lua's words, or because the running code has used up its time.
pub fn find(subject: &[u8], pattern: &[u8], start: usize) -> Result<Option<Match>, &'static str> {
    let anchored = pattern.first() == Some(&b'^');
    let body = &pattern[usize::from(anchored)..];
    let mut matcher = Matcher { subject, pattern: body, captures: Vec::new(), depth: 0, steps: 0 };
    let mut from = start;
    while from <= subject.len() {
        matcher.captures.clear();
        if let Some(to) = matcher.matches(from, 0)? {
            let captures = matcher.captures.iter().map(|held| match *held {
                Held::Text(from, to) => Ok(Capture::Text(from, to)),
                Held::Place(at) => Ok(Capture::Place(at)),
                Held::Open(_) => Err("unfinished capture"),
            });
            return Ok(Some(Match { from, to, captures: captures.collect::<Result<_, _>>()? }));
        }
        if anchored {
            break;
        }
        from += 1;
    }
    Ok(None)
}

/// The first place at or behind `start` where `wanted` stands.
pub fn find_plain(subject: &[u8], wanted: &[u8], start: usize) -> Result<Option<usize>, &'static str> {
    if wanted.is_empty() {
        return Ok((start <= subject.len()).then_some(start));
    }
    let rest = subject.get(start..).unwrap_or_default();
    let stride = (1 << 20) / wanted.len() + 1;
    for (at, window) in rest.windows(wanted.len()).enumerate() {
        if at % stride == 0 && expired() {
            return Err(TOO_LONG);
        }
        if window == wanted {
            return Ok(Some(start + at));
        }
    }
    Ok(None)
}

impl Matcher<'_> {
    fn step(&mut self) -> Result<(), &'static str> {
        self.steps += 1;
        if self.steps >= STRIDE {
            self.steps = 0;
            if expired() {
                return Err(TOO_LONG);
            }
        }
        Ok(())
    }

    /// Matches the pattern from `at` on against the subject from `from` on; answers where the match ends.
    fn matches(&mut self, from: usize, at: usize) -> Found {
        if self.depth >= DEPTH {
            return Err("pattern too complex");
        }
        self.depth += 1;
        let found = self.matches_here(from, at);
        self.depth -= 1;
        found
    }

    fn matches_here(&mut self, mut from: usize, mut at: usize) -> Found {
        loop {
            self.step()?;
            let Some(first) = self.pattern.get(at).copied() else { return Ok(Some(from)) };
            match first {
                b'(' if self.pattern.get(at + 1) == Some(&b')') => return self.begin(from, at + 2, Held::Place(from)),
                b'(' => return self.begin(from, at + 1, Held::Open(from)),
                b')' => return self.end(from, at + 1),
                b'$' if at + 1 == self.pattern.len() => return Ok((from == self.subject.len()).then_some(from)),
                b'%' => match self.pattern.get(at + 1) {
                    Some(b'b') => match self.balanced(from, at + 2)? {
                        Some(to) => {
                            from = to;
                            at += 4;
                            continue;
                        }
                        None => return Ok(None),
                    },
                    Some(b'f') => {
                        if self.pattern.get(at + 2) != Some(&b'[') {
                            return Err("missing '[' after '%f' in pattern");
                        }
                        let end = self.item_end(at + 2)?;
                        let before = if from == 0 { 0 } else { self.subject[from - 1] };
                        let here = self.subject.get(from).copied().unwrap_or(0);
                        if self.in_set(before, at + 2, end - 1) || !self.in_set(here, at + 2, end - 1) {
                            return Ok(None);
                        }
                        at = end;
                        continue;
                    }
                    Some(digit) if digit.is_ascii_digit() => match self.repeated(from, *digit)? {
                        Some(to) => {
                            from = to;
                            at += 2;
                            continue;
                        }
                        None => return Ok(None),
                    },
                    _ => {}
                },
                _ => {}
            }
            let end = self.item_end(at)?;
            match self.pattern.get(end) {
                Some(b'?') => {
                    if self.one(from, at, end)
                        && let Some(to) = self.matches(from + 1, end + 1)?
                    {
                        return Ok(Some(to));
                    }
                    at = end + 1;
                }
                Some(b'*') => return self.most(from, at, end, 0),
                Some(b'+') => return self.most(from, at, end, 1),
                Some(b'-') => return self.least(from, at, end),
                _ if self.one(from, at, end) => {
                    from += 1;
                    at = end;
                }
                _ => return Ok(None),
            }
        }
    }

    /// As often as possible, at least so often.
    fn most(&mut self, from: usize, at: usize, end: usize, least: usize) -> Found {
        let mut count = 0;
        while self.one(from + count, at, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if count < least {
                return Ok(None);
            }
            if let Some(to) = self.matches(from + count, end + 1)? {
                return Ok(Some(to));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// As seldom as possible.
    fn least(&mut self, mut from: usize, at: usize, end: usize) -> Found {
        loop {
            if let Some(to) = self.matches(from, end + 1)? {
                return Ok(Some(to));
            }
            if !self.one(from, at, end) {
                return Ok(None);
            }
            from += 1;
        }
    }

    fn begin(&mut self, from: usize, at: usize, held: Held) -> Found {
        if self.captures.len() >= CAPTURES {
            return Err("too many captures");
        }
        let level = self.captures.len();
        self.captures.push(held);
        let found = self.matches(from, at)?;
        if found.is_none() {
            self.captures.truncate(level);
        }
        Ok(found)
    }

    fn end(&mut self, from: usize, at: usize) -> Found {
        let open = self.captures.iter().rposition(|held| matches!(held, Held::Open(_))).ok_or("invalid pattern capture")?;
        let before = self.captures[open];
        if let Held::Open(start) = before {
            self.captures[open] = Held::Text(start, from);
        }
        let found = self.matches(from, at)?;
        if found.is_none() {
            self.captures.truncate(open + 1);
            self.captures[open] = before;
        }
        Ok(found)
    }

    /// `%b()`: from an opening byte to the closing one that belongs to it.
    fn balanced(&mut self, from: usize, at: usize) -> Found {
        let (Some(open), Some(close)) = (self.pattern.get(at).copied(), self.pattern.get(at + 1).copied()) else {
            return Err("unbalanced pattern");
        };
        if self.subject.get(from) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for place in from + 1..self.subject.len() {
            self.step()?;
            let byte = self.subject[place];
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(place + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%1`: what a capture holds, once more.
    fn repeated(&mut self, from: usize, digit: u8) -> Found {
        let held = (digit as usize).checked_sub(usize::from(b'1')).and_then(|at| self.captures.get(at).copied());
        let Some(Held::Text(start, end)) = held else { return Err("invalid capture index") };
        let wanted = &self.subject[start..end];
        Ok(self.subject[from..].starts_with(wanted).then_some(from + wanted.len()))
    }

    /// Behind the single item at `at`, before what repeats it.
    fn item_end(&self, at: usize) -> Result<usize, &'static str> {
        match self.pattern[at] {
            b'%' => match self.pattern.get(at + 1) {
                Some(_) => Ok(at + 2),
                None => Err(MALFORMED_END),
            },
            b'[' => {
                let mut place = at + 1;
                if self.pattern.get(place) == Some(&b'^') {
                    place += 1;
                }
                loop {
                    match self.pattern.get(place) {
                        None => return Err(MALFORMED_CLASS),
                        Some(b'%') => place += 2,
                        Some(_) => place += 1,
                    }
                    if self.pattern.get(place) == Some(&b']') {
                        return Ok(place + 1);
                    }
                }
            }
            _ => Ok(at + 1),
        }
    }

    /// Whether the byte at `from` is what the item stands for.
    fn one(&self, from: usize, at: usize, end: usize) -> bool {
        let Some(byte) = self.subject.get(from).copied() else { return false };
        match self.pattern[at] {
            b'.' => true,
            b'%' => class(byte, self.pattern[at + 1]),
            b'[' => self.in_set(byte, at, end - 1),
            literal => literal == byte,
        }
    }

    /// Whether a byte is in the set that begins at `at`, whose closing bracket stands at `close`.
    fn in_set(&self, byte: u8, at: usize, close: usize) -> bool {
        let mut place = at + 1;
        let inverted = self.pattern[place] == b'^';
        if inverted {
            place += 1;
        }
        while place < close {
            if self.pattern[place] == b'%' {
                place += 1;
                if class(byte, self.pattern[place]) {
                    return !inverted;
                }
            } else if self.pattern.get(place + 1) == Some(&b'-') && place + 2 < close {
                if (self.pattern[place]..=self.pattern[place + 2]).contains(&byte) {
                    return !inverted;
                }
                place += 2;
            } else if self.pattern[place] == byte {
                return !inverted;
            }
            place += 1;
        }
        inverted
    }
}

fn class(byte: u8, name: u8) -> bool {
    let within = match name.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte == b' ' || (9..=13).contains(&byte),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return name == byte,
    };
    within != name.is_ascii_uppercase()
}
