//! Text and bytes: encodings, digests, expressions, JSON.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use md5::Md5;
use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, UserDataRef, UserDataRefMut, Value};
use sha1::{Digest, Sha1};

use crate::json::{Codec, Invalid};
use crate::pattern::Capture;
use crate::state::State;
use crate::{json, moment, pattern, regex, text};

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    add_json(lua, native)?;
    add_patterns(lua, native)?;
    native.set(
        "encode_base64",
        lua.create_function(|lua, (bytes, unpadded): (LuaString, Option<bool>)| {
            let engine = if unpadded.unwrap_or(false) { &STANDARD_NO_PAD } else { &STANDARD };
            lua.create_string(engine.encode(bytes.as_bytes()))
        })?,
    )?;
    native.set(
        "decode_base64",
        lua.create_function(|lua, text: LuaString| {
            // Padding may be missing, as with nginx.
            let text = text.as_bytes();
            let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
            super::optional(lua, STANDARD_NO_PAD.decode(&text[..end]).ok())
        })?,
    )?;
    native.set(
        "encode_base64url",
        lua.create_function(|lua, bytes: LuaString| lua.create_string(URL_SAFE_NO_PAD.encode(bytes.as_bytes())))?,
    )?;
    native.set(
        "decode_base64url",
        lua.create_function(|lua, text: LuaString| {
            let bytes = text.as_bytes();
            let end = bytes.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
            super::optional(lua, URL_SAFE_NO_PAD.decode(&bytes[..end]).ok())
        })?,
    )?;
    native.set(
        "escape",
        lua.create_function(|lua, (bytes, kind): (LuaString, Option<u8>)| {
            let mut out = Vec::new();
            match kind {
                Some(kind @ (0 | 1)) => text::escape_part(&bytes.as_bytes(), kind == 1, &mut out),
                _ => text::escape(&bytes.as_bytes(), &mut out),
            }
            lua.create_string(out)
        })?,
    )?;
    native.set("unescape", lua.create_function(|lua, bytes: LuaString| lua.create_string(text::unescape(&bytes.as_bytes(), true)))?)?;
    native.set("normal_path", lua.create_function(|lua, bytes: LuaString| lua.create_string(text::normal_path(&bytes.as_bytes())))?)?;
    native.set("tostring", lua.create_function(|_, number: f64| Ok(text::number(number)))?)?;
    native.set("hex", lua.create_function(|_, bytes: LuaString| Ok(text::hex_of(&bytes.as_bytes())))?)?;
    add_digests(lua, native)?;
    native.set(
        "regex_find",
        lua.create_function(|lua, (subject, pattern, options, start): (LuaString, LuaString, Option<String>, usize)| {
            let options = options.unwrap_or_default();
            let found = |state: &State| state.regexes.get(&pattern.to_string_lossy(), &options).map_err(|error| error.replace('\n', " "));
            let regex = match moment::run() {
                Some(run) => found(&run.state),
                None => match State::current() {
                    Some(state) => found(&state),
                    None => regex::Regexes::default().get(&pattern.to_string_lossy(), &options),
                },
            };
            let regex = match regex {
                Ok(regex) => regex,
                Err(problem) => {
                    return Ok((
                        Value::Nil,
                        Value::String(lua.create_string(format!("pcre_compile() failed: {problem}"))?),
                        Value::Nil,
                        Value::Nil,
                    ));
                }
            };
            match regex::find(lua, &regex, &subject.as_bytes(), start)? {
                Some((captures, from, to, places)) => {
                    Ok((Value::Table(captures), Value::Number(from as f64), Value::Number(to as f64), Value::Table(places)))
                }
                None => Ok((Value::Nil, Value::Nil, Value::Nil, Value::Nil)),
            }
        })?,
    )
}

fn add_json(lua: &Lua, native: &Table) -> mlua::Result<()> {
    let array_mt = lua.create_table()?;
    array_mt.raw_set(json::ARRAY_MARK, true)?;
    let empty_array_mt = lua.create_table()?;
    empty_array_mt.raw_set(json::EMPTY_ARRAY_MARK, true)?;
    native.set("array_mt", &array_mt)?;
    native.set("empty_array_mt", empty_array_mt)?;
    native.set("empty_array", super::mark_of(json::encode::EMPTY_ARRAY))?;
    native.set(
        "codec",
        lua.create_function(|_, from: Option<UserDataRef<Codec>>| Ok(from.map(|codec| codec.clone()).unwrap_or_default()))?,
    )?;
    native.set(
        "encode",
        lua.create_function(|lua, (codec, value): (UserDataRef<Codec>, Value)| lua.create_string(json::encode::encode(&codec, &value)?))?,
    )?;
    native.set(
        "decode",
        lua.create_function(move |lua, (codec, text): (UserDataRef<Codec>, LuaString)| {
            json::decode::decode(lua, &codec, &text.as_bytes(), Some(&array_mt))
        })?,
    )?;
    native.set("codec_set", lua.create_function(set_codec)?)
}

/// Changes a setting of a cjson where a value is given, and tells what it is now.
fn set_codec(
    lua: &Lua,
    (mut codec, name, one, two, three): (UserDataRefMut<Codec>, String, Value, Option<usize>, Option<usize>),
) -> mlua::Result<MultiValue> {
    let number = match &one {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    };
    let within = |low: f64, high: f64| match number {
        Some(number) if !(low..=high).contains(&number) => {
            Err(mlua::Error::runtime(format!("bad argument #1 to '{name}' (expected integer between {low} and {high})")))
        }
        number => Ok(number.map(|number| number as usize)),
    };
    let flag = match &one {
        Value::Boolean(flag) => Some(*flag),
        Value::String(word) => Some(*word.as_bytes() == *b"on"),
        _ => None,
    };
    let invalid = match &one {
        Value::String(word) if *word.as_bytes() == *b"null" => Some(Invalid::Null),
        _ => flag.map(|flag| if flag { Invalid::Taken } else { Invalid::Refused }),
    };
    let shown = |invalid: Invalid| match invalid {
        Invalid::Refused => false.into_lua_multi(lua),
        Invalid::Taken => true.into_lua_multi(lua),
        Invalid::Null => "null".into_lua_multi(lua),
    };
    match name.as_str() {
        // Deeper than this our own stack would not hold.
        "encode_max_depth" => {
            codec.encode_max_depth = within(1.0, f64::MAX)?.unwrap_or(codec.encode_max_depth).min(json::DEPTH);
            codec.encode_max_depth.into_lua_multi(lua)
        }
        "decode_max_depth" => {
            codec.decode_max_depth = within(1.0, f64::MAX)?.unwrap_or(codec.decode_max_depth).min(json::DEPTH);
            codec.decode_max_depth.into_lua_multi(lua)
        }
        "encode_number_precision" => {
            codec.encode_number_precision = within(1.0, 16.0)?.unwrap_or(codec.encode_number_precision);
            codec.encode_number_precision.into_lua_multi(lua)
        }
        "encode_sparse_array" => {
            let (convert, ratio, safe) = codec.encode_sparse_array;
            codec.encode_sparse_array = (flag.unwrap_or(convert), two.unwrap_or(ratio), three.unwrap_or(safe));
            codec.encode_sparse_array.into_lua_multi(lua)
        }
        "encode_invalid_numbers" => {
            codec.encode_invalid_numbers = invalid.unwrap_or(codec.encode_invalid_numbers);
            shown(codec.encode_invalid_numbers)
        }
        "decode_invalid_numbers" => {
            codec.decode_invalid_numbers = invalid.unwrap_or(codec.decode_invalid_numbers);
            shown(codec.decode_invalid_numbers)
        }
        "encode_empty_table_as_object" => {
            codec.encode_empty_table_as_object = flag.unwrap_or(codec.encode_empty_table_as_object);
            codec.encode_empty_table_as_object.into_lua_multi(lua)
        }
        "decode_array_with_array_mt" => {
            codec.decode_array_with_array_mt = flag.unwrap_or(codec.decode_array_with_array_mt);
            codec.decode_array_with_array_mt.into_lua_multi(lua)
        }
        "encode_escape_forward_slash" => {
            codec.encode_escape_forward_slash = flag.unwrap_or(codec.encode_escape_forward_slash);
            codec.encode_escape_forward_slash.into_lua_multi(lua)
        }
        // The buffer is ours, and never kept.
        _ => flag.unwrap_or(true).into_lua_multi(lua),
    }
}

/// Patterns that could keep LuaJIT's own matcher busy for long.
fn add_patterns(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "pattern_find",
        lua.create_function(|lua, (subject, wanted, start): (LuaString, LuaString, usize)| {
            let subject = subject.as_bytes();
            let found = pattern::find(&subject, &wanted.as_bytes(), start).map_err(mlua::Error::runtime)?;
            let Some(found) = found else { return Ok(MultiValue::new()) };
            let mut out: Vec<Value> = vec![Value::Integer(found.from as i64 + 1), Value::Integer(found.to as i64)];
            for capture in found.captures {
                out.push(match capture {
                    Capture::Text(from, to) => Value::String(lua.create_string(&subject[from..to])?),
                    Capture::Place(at) => Value::Integer(at as i64 + 1),
                });
            }
            Ok(MultiValue::from_vec(out))
        })?,
    )?;
    native.set(
        "plain_find",
        lua.create_function(|_, (subject, wanted, start): (LuaString, LuaString, usize)| {
            let found = pattern::find_plain(&subject.as_bytes(), &wanted.as_bytes(), start).map_err(mlua::Error::runtime)?;
            Ok(found.map(|at| (at + 1, at + wanted.as_bytes().len())).unzip())
        })?,
    )
}

fn add_digests(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set("md5", lua.create_function(|lua, bytes: LuaString| lua.create_string(Md5::digest(bytes.as_bytes())))?)?;
    native.set("sha1", lua.create_function(|lua, bytes: LuaString| lua.create_string(Sha1::digest(bytes.as_bytes())))?)?;
    native.set(
        "sha2",
        lua.create_function(|lua, (bits, bytes): (u16, LuaString)| {
            let algorithm = match bits {
                224 => &aws_lc_rs::digest::SHA224,
                384 => &aws_lc_rs::digest::SHA384,
                512 => &aws_lc_rs::digest::SHA512,
                _ => &aws_lc_rs::digest::SHA256,
            };
            lua.create_string(aws_lc_rs::digest::digest(algorithm, &bytes.as_bytes()))
        })?,
    )?;
    native.set(
        "hmac",
        lua.create_function(|lua, (name, key, bytes): (String, LuaString, LuaString)| {
            let algorithm = match name.as_str() {
                "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                "sha256" => hmac::HMAC_SHA256,
                "sha384" => hmac::HMAC_SHA384,
                "sha512" => hmac::HMAC_SHA512,
                _ => return Err(mlua::Error::runtime(format!("unknown digest {name}"))),
            };
            let key = hmac::Key::new(algorithm, &key.as_bytes());
            lua.create_string(hmac::sign(&key, &bytes.as_bytes()))
        })?,
    )?;
    native.set("crc32", lua.create_function(|_, bytes: LuaString| Ok(f64::from(crc32(&bytes.as_bytes()))))?)?;
    native.set(
        "random_bytes",
        lua.create_function(|lua, count: usize| {
            let mut bytes = vec![0u8; count.min(1 << 20)];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| mlua::Error::runtime("no random bytes"))?;
            lua.create_string(bytes)
        })?,
    )?;
    native.set("uuid", lua.create_function(|_, ()| Ok(uuid::Uuid::new_v4().to_string()))?)
}

/// CRC-32 as zlib computes it, bit by bit: texts are short.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
