//! Text and bytes: encodings, digests, expressions, JSON.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use md5::Md5;
use mlua::{Lua, LuaString, Table, Value};
use sha1::{Digest, Sha1};

use crate::state::State;
use crate::{json, moment, regex, text};

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set("encode", lua.create_function(|lua, value: Value| lua.create_string(json::encode(&value)?))?)?;
    native.set("decode", lua.create_function(|lua, text: LuaString| json::decode(lua, &text))?)?;
    native.set(
        "encode_base64",
        lua.create_function(|lua, (bytes, unpadded): (LuaString, Option<bool>)| {
            let engine = if unpadded.unwrap_or(false) { &STANDARD_NO_PAD } else { &STANDARD };
            lua.create_string(engine.encode(bytes.as_bytes()))
        })?,
    )?;
    native.set(
        "decode_base64",
        lua.create_function(|lua, text: LuaString| super::optional(lua, STANDARD.decode(text.as_bytes().trim_ascii()).ok()))?,
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
        lua.create_function(|lua, bytes: LuaString| {
            let mut out = Vec::new();
            text::escape(&bytes.as_bytes(), &mut out);
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
            let found = |state: &State| {
                state.regexes.get(&pattern.to_string_lossy(), &options.unwrap_or_default()).map_err(|error| error.replace('\n', " "))
            };
            let regex = match moment::run() {
                Some(run) => found(&run.state),
                None => fancy_regex::Regex::new(&pattern.to_string_lossy()).map(std::rc::Rc::new).map_err(|error| error.to_string()),
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
