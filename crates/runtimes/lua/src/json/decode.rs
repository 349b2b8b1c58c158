//! Lua values of JSON text, with cjson's words for what is wrong with it.

use mlua::{Lua, Table, Value};

use super::{Codec, Invalid};

/// The value of a text. Errors name the token that does not fit, and where it stands.
pub fn decode(lua: &Lua, codec: &Codec, text: &[u8], array_mt: Option<&Table>) -> mlua::Result<Value> {
    let mut reader = Reader { lua, codec, text, at: 0, depth: 0, array_mt: array_mt.filter(|_| codec.decode_array_with_array_mt) };
    let value = reader.value("value")?;
    match reader.token()? {
        (Token::End, _) => Ok(value),
        (token, at) => Err(reader.unexpected("the end", &token, at)),
    }
}

/// A token; strings and numbers with what they stand for.
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    End,
    Wrong(&'static str),
}

impl Token {
    /// As cjson's messages name it.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::End => "T_END",
            Token::Wrong(what) => what,
        }
    }
}

const INVALID: Token = Token::Wrong("invalid token");
const INVALID_NUMBER: Token = Token::Wrong("invalid number");
const INVALID_ESCAPE: Token = Token::Wrong("invalid escape code");
const INVALID_UNICODE: Token = Token::Wrong("invalid unicode escape code");
const UNFINISHED: Token = Token::Wrong("unexpected end of string");

struct Reader<'a> {
    lua: &'a Lua,
    codec: &'a Codec,
    text: &'a [u8],
    at: usize,
    depth: usize,
    array_mt: Option<&'a Table>,
}

impl Reader<'_> {
    fn unexpected(&self, wanted: &str, token: &Token, at: usize) -> mlua::Error {
        mlua::Error::runtime(format!("Expected {wanted} but found {} at character {}", token.name(), at + 1))
    }

    fn deeper(&mut self) -> mlua::Result<()> {
        self.depth += 1;
        if self.depth > self.codec.decode_max_depth {
            let (depth, at) = (self.depth, self.at);
            return Err(mlua::Error::runtime(format!("Found too many nested data structures ({depth}) at character {at}")));
        }
        Ok(())
    }

    fn value(&mut self, wanted: &str) -> mlua::Result<Value> {
        let (token, at) = self.token()?;
        self.value_of(wanted, token, at)
    }

    fn value_of(&mut self, wanted: &str, token: Token, at: usize) -> mlua::Result<Value> {
        Ok(match token {
            Token::String(text) => Value::String(self.lua.create_string(text)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(flag) => Value::Boolean(flag),
            Token::Null => Value::NULL,
            Token::ObjectBegin => self.object()?,
            Token::ArrayBegin => self.array()?,
            other => return Err(self.unexpected(wanted, &other, at)),
        })
    }

    fn object(&mut self) -> mlua::Result<Value> {
        self.deeper()?;
        let table = self.lua.create_table()?;
        let (mut token, mut at) = self.token()?;
        if let Token::ObjectEnd = token {
            self.depth -= 1;
            return Ok(Value::Table(table));
        }
        loop {
            let Token::String(name) = token else { return Err(self.unexpected("object key string", &token, at)) };
            match self.token()? {
                (Token::Colon, _) => {}
                (other, at) => return Err(self.unexpected("colon", &other, at)),
            }
            let value = self.value("value")?;
            table.raw_set(self.lua.create_string(name)?, value)?;
            match self.token()? {
                (Token::ObjectEnd, _) => break,
                (Token::Comma, _) => (token, at) = self.token()?,
                (other, at) => return Err(self.unexpected("comma or object end", &other, at)),
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn array(&mut self) -> mlua::Result<Value> {
        self.deeper()?;
        let table = self.lua.create_table()?;
        if let Some(meta) = self.array_mt {
            table.set_metatable(Some(meta.clone()))?;
        }
        let (mut token, mut at) = self.token()?;
        if let Token::ArrayEnd = token {
            self.depth -= 1;
            return Ok(Value::Table(table));
        }
        for place in 1.. {
            let value = self.value_of("value", token, at)?;
            table.raw_set(place, value)?;
            match self.token()? {
                (Token::ArrayEnd, _) => break,
                (Token::Comma, _) => (token, at) = self.token()?,
                (other, at) => return Err(self.unexpected("comma or array end", &other, at)),
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    /// The next token, and where it begins.
    fn token(&mut self) -> mlua::Result<(Token, usize)> {
        while self.text.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let from = self.at;
        let Some(first) = self.text.get(from).copied() else { return Ok((Token::End, from)) };
        self.at += 1;
        let token = match first {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => self.string(),
            b't' => self.word(from, "true", Token::Boolean(true)),
            b'f' => self.word(from, "false", Token::Boolean(false)),
            b'n' if self.text[from..].starts_with(b"null") => self.word(from, "null", Token::Null),
            b'-' | b'+' | b'0'..=b'9' | b'n' | b'N' | b'i' | b'I' => self.number(from),
            _ => INVALID,
        };
        // Tokens that are wrong inside name the place that is.
        let at = if let Token::Wrong("invalid escape code" | "invalid unicode escape code" | "unexpected end of string") = token {
            self.at
        } else {
            from
        };
        Ok((token, at))
    }

    fn word(&mut self, from: usize, word: &str, token: Token) -> Token {
        if !self.text[from..].starts_with(word.as_bytes()) {
            return INVALID;
        }
        self.at = from + word.len();
        token
    }

    fn number(&mut self, from: usize) -> Token {
        let rest = &self.text[from..];
        let end = rest.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'));
        let Ok(text) = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]) else { return INVALID };
        let digits = text.trim_start_matches('-');
        let strict = digits.starts_with(|first: char| first.is_ascii_digit())
            && (digits.len() == 1
                || !digits.starts_with('0')
                || !digits[1..].starts_with(|next: char| next.is_ascii_alphanumeric())
                || digits[1..].starts_with(['e', 'E']));
        if !strict && matches!(self.codec.decode_invalid_numbers, Invalid::Refused) {
            return if digits.starts_with(|first: char| first.is_ascii_digit()) { INVALID_NUMBER } else { INVALID };
        }
        let lower = digits.to_ascii_lowercase();
        let parsed = match lower.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(|number| number as f64),
            None => digits.parse::<f64>().ok(),
        };
        let Some(number) = parsed else {
            return if digits.starts_with(|first: char| first.is_ascii_digit()) { INVALID_NUMBER } else { INVALID };
        };
        self.at = from + text.len();
        Token::Number(if text.starts_with('-') { -number } else { number })
    }

    fn string(&mut self) -> Token {
        let mut out = Vec::new();
        loop {
            let Some(byte) = self.text.get(self.at).copied() else { return UNFINISHED };
            match byte {
                b'"' => {
                    self.at += 1;
                    return Token::String(out);
                }
                b'\\' => {
                    let Some(escaped) = self.text.get(self.at + 1).copied() else { return INVALID_ESCAPE };
                    match escaped {
                        b'"' | b'\\' | b'/' => out.push(escaped),
                        b'b' => out.push(8),
                        b't' => out.push(9),
                        b'n' => out.push(10),
                        b'f' => out.push(12),
                        b'r' => out.push(13),
                        b'u' => match self.unicode() {
                            Some((character, length)) => {
                                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                                self.at += length;
                                continue;
                            }
                            None => return INVALID_UNICODE,
                        },
                        _ => return INVALID_ESCAPE,
                    }
                    self.at += 2;
                }
                byte => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    /// The character of a `\u` escape at the current place, and the escape's length; two escapes where one alone is a half.
    fn unicode(&self) -> Option<(char, usize)> {
        let unit = |at: usize| -> Option<u32> {
            let digits = self.text.get(at + 2..at + 6)?;
            let plain = self.text.get(at..at + 2) == Some(b"\\u") && digits.iter().all(u8::is_ascii_hexdigit);
            plain.then(|| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
        };
        let first = unit(self.at)?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).map(|character| (character, 6));
        }
        let second = unit(self.at + 6).filter(|second| (0xdc00..0xe000).contains(second))?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).map(|character| (character, 12))
    }
}
