//! Trace headers of all formats, read (behaviour checklist 12.4).

use portcullis_plugin::Headers;

use super::{Format, Incoming, TraceId};

/// What a request's headers say in one format; none when they say nothing in it, or nothing that can be understood.
pub fn extract(format: Format, headers: &Headers) -> Option<Incoming> {
    match format {
        Format::B3 | Format::B3Single => b3(headers),
        Format::W3c => w3c(headers),
        Format::Jaeger => jaeger(headers),
        Format::Ot => ot(headers),
        Format::Datadog => datadog(headers),
        Format::Aws => aws(headers),
        Format::Gcp => gcp(headers),
    }
}

fn text<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?).ok().map(str::trim)
}

/// A trace of 16 or 32 hex digits.
fn trace(text: &str) -> Option<TraceId> {
    let short = text.len() == 16;
    if !short && text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(TraceId { value: u128::from_str_radix(text, 16).ok()?, short })
}

/// A span of 16 hex digits.
fn span(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

fn b3(headers: &Headers) -> Option<Incoming> {
    if let Some(single) = text(headers, "b3") {
        return b3_single(single);
    }
    // Zipkin's B3 may travel in `tracestate`. As in Kong such a header counts as B3 even when it is somebody else's.
    if let Some(state) = text(headers, "tracestate") {
        return match state.strip_prefix("b3=") {
            Some(single) => b3_single(single),
            None => Some(Incoming::of(Format::B3)),
        };
    }
    let [id, own, parent, sampled, flags] =
        ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"].map(|name| text(headers, name));
    id.or(sampled).or(flags)?;
    let debug = flags == Some("1");
    let sampled = match sampled {
        _ if debug => Some(true),
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        _ => None,
    };
    let found = Incoming { sampled, debug, shares_span: true, ..Incoming::of(Format::B3) };
    let Some(id) = id else { return Some(found) };
    let own = own.map(span);
    let parent = parent.map(span);
    if own == Some(None) || parent == Some(None) {
        return None;
    }
    Some(Incoming { trace: Some(trace(id)?), span: own.flatten(), parent: parent.flatten(), ..found })
}

/// `trace-span`, `trace-span-sampled`, `trace-span-sampled-parent`, or the decision alone.
fn b3_single(value: &str) -> Option<Incoming> {
    let found = Incoming { shares_span: true, ..Incoming::of(Format::B3Single) };
    let decided = |text: &str| match text {
        "1" => Some((Some(true), false)),
        "0" => Some((Some(false), false)),
        "d" => Some((Some(true), true)),
        _ => None,
    };
    let parts: Vec<&str> = value.split('-').collect();
    let (id, own, rest) = match *parts.as_slice() {
        [decision] => {
            let (sampled, debug) = decided(decision)?;
            return Some(Incoming { sampled, debug, ..found });
        }
        [id, own, ref rest @ ..] if rest.len() <= 2 => (trace(id)?, span(own)?, rest),
        _ => return None,
    };
    let (sampled, debug) = match rest.first() {
        Some(decision) => decided(decision)?,
        None => (None, false),
    };
    let parent = match rest.get(1) {
        Some(parent) => Some(span(parent)?),
        None => None,
    };
    Some(Incoming { trace: Some(id), span: Some(own), parent, sampled, debug, ..found })
}

/// W3C Trace Context, version 00.
fn w3c(headers: &Headers) -> Option<Incoming> {
    let mut parts = text(headers, "traceparent")?.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() || id.len() != 32 || flags.len() != 2 {
        return None;
    }
    let (id, own) = (trace(id)?, span(parent)?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    if id.value == 0 || own == 0 {
        return None;
    }
    Some(Incoming { trace: Some(id), span: Some(own), sampled: Some(flags & 1 == 1), ..Incoming::of(Format::W3c) })
}

/// `trace:span:parent:flags`, without leading zeros if the sender likes.
fn jaeger(headers: &Headers) -> Option<Incoming> {
    let mut parts = text(headers, "uber-trace-id")?.split(':');
    let (id, own, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, most: usize| !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.next().is_some() || !hex(id, 32) || !hex(own, 16) || !hex(parent, 16) || !hex(flags, 2) {
        return None;
    }
    let value = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    let own = u64::from_str_radix(own, 16).ok().filter(|own| *own != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(Incoming {
        trace: Some(TraceId { value, short: id.len() == 16 }),
        span: Some(own),
        parent,
        sampled: Some(flags & 1 == 1),
        shares_span: true,
        ..Incoming::of(Format::Jaeger)
    })
}

fn ot(headers: &Headers) -> Option<Incoming> {
    let id = text(headers, "ot-tracer-traceid")?;
    let sampled = match text(headers, "ot-tracer-sampled") {
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        _ => None,
    };
    let own = match text(headers, "ot-tracer-spanid") {
        Some(own) => Some(span(own)?),
        None => None,
    };
    Some(Incoming { trace: Some(trace(id)?), span: own, sampled, ..Incoming::of(Format::Ot) })
}

fn datadog(headers: &Headers) -> Option<Incoming> {
    let id: u64 = text(headers, "x-datadog-trace-id")?.parse().ok()?;
    let own = match text(headers, "x-datadog-parent-id") {
        Some(own) => Some(own.parse().ok()?),
        None => None,
    };
    let priority = text(headers, "x-datadog-sampling-priority").and_then(|text| text.parse::<i64>().ok());
    Some(Incoming {
        trace: Some(TraceId { value: id.into(), short: true }),
        span: own,
        sampled: priority.map(|priority| priority > 0),
        ..Incoming::of(Format::Datadog)
    })
}

/// `Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=<0 or 1>`, in any order.
fn aws(headers: &Headers) -> Option<Incoming> {
    let mut found = Incoming::of(Format::Aws);
    for (name, value) in text(headers, "x-amzn-trace-id")?.split(';').filter_map(|part| part.split_once('=')) {
        match name.trim() {
            "Root" => {
                let digits: Vec<&str> = value.trim().split('-').collect();
                let [version, time, rest] = *digits.as_slice() else { return None };
                if version != "1" || time.len() != 8 || rest.len() != 24 {
                    return None;
                }
                found.trace = Some(trace(&[time, rest].concat())?);
            }
            "Parent" => found.span = Some(span(value.trim())?),
            "Sampled" => found.sampled = Some(value.trim() == "1"),
            _ => {}
        }
    }
    found.trace.and(found.span)?;
    Some(found)
}

/// `<32 hex digits>/<decimal span>`, perhaps with `;o=<0 or 1>`.
fn gcp(headers: &Headers) -> Option<Incoming> {
    let (ids, options) = match text(headers, "x-cloud-trace-context")?.split_once(';') {
        Some((ids, options)) => (ids, Some(options.strip_prefix("o=")?)),
        None => (text(headers, "x-cloud-trace-context")?, None),
    };
    let (id, own) = ids.split_once('/')?;
    if id.len() != 32 {
        return None;
    }
    let own: u64 = own.parse().ok()?;
    Some(Incoming { trace: Some(trace(id)?), span: Some(own), sampled: options.map(|options| options == "1"), ..Incoming::of(Format::Gcp) })
}
