//! The node, its clock, and waiting.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlua::{Lua, MultiValue, Table};

use crate::moment::with;
use crate::run::Made;
use crate::settings::Settings;

/// The last second of the year 9999, which dates of HTTP end with (RFC 9110 section 5.6.7: four digits).
const LAST_DATE: f64 = 253_402_300_799.0;

pub fn add(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    native.set("now", lua.create_function(|_, ()| Ok(now().as_secs_f64()))?)?;
    native.set(
        "http_time",
        lua.create_function(|_, seconds: f64| Ok(httpdate::fmt_http_date(UNIX_EPOCH + super::length(seconds, 0.0, LAST_DATE))))?,
    )?;
    native.set(
        "parse_http_time",
        lua.create_function(|_, text: String| {
            let parsed = httpdate::parse_http_date(&text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            Ok(parsed.map(|time| time.as_secs() as f64))
        })?,
    )?;
    native.set("civil", lua.create_function(|_, seconds: f64| Ok(civil(seconds.max(0.0) as u64)))?)?;
    let trusted = settings.trusted_ips.clone();
    native.set(
        "is_trusted",
        lua.create_function(move |_, address: String| {
            Ok(address.parse::<IpAddr>().is_ok_and(|address| trusted.iter().any(|network| network.contains(&address))))
        })?,
    )?;
    native.set(
        "address_family",
        lua.create_function(|_, address: mlua::LuaString| {
            let parsed = address.to_string_lossy().parse::<IpAddr>();
            Ok(parsed.ok().map(|address| if address.is_ipv4() { 4 } else { 6 }))
        })?,
    )?;
    // Where bytes stop being UTF-8, counted from one.
    native.set(
        "malformed_utf8",
        lua.create_function(|_, text: mlua::LuaString| {
            Ok(std::str::from_utf8(&text.as_bytes()).err().map(|error| error.valid_up_to() + 1))
        })?,
    )?;
    native.set("used_memory", lua.create_function(|lua, ()| Ok(lua.used_memory() as f64))?)?;
    // What follows waits: the caller yields WAIT, and is given what the future makes.
    native.set(
        "sleep",
        lua.create_function(|_, seconds: f64| {
            let length = super::length(seconds, 0.0, super::DAY);
            with(|moment| {
                *moment.run.pending.borrow_mut() = Some(Box::pin(async move {
                    tokio::time::sleep(length).await;
                    Box::new(|_: &Lua| Ok(MultiValue::new())) as Made
                }));
                Ok(())
            })
        })?,
    )
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since the epoch as year, month, day, hour, minute, second (UTC, proleptic Gregorian calendar).
pub fn civil(seconds: u64) -> (i64, i64, i64, u64, u64, u64) {
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day, rest / 3600, rest / 60 % 60, rest % 60)
}
