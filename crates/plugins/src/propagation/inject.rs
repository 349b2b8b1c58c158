//! Trace headers of all formats, written.

use portcullis_plugin::Headers;

use super::{Format, Outgoing};

/// Writes what the upstream is told in one format, in the place of what stood there.
pub fn inject(format: Format, headers: &mut Headers, out: &Outgoing) {
    let sampled = u8::from(out.sampled);
    let span = out.span;
    match format {
        Format::B3 => {
            headers.set("x-b3-traceid", out.trace.hex().as_bytes());
            headers.set("x-b3-spanid", format!("{span:016x}").as_bytes());
            match out.parent {
                Some(parent) => headers.set("x-b3-parentspanid", format!("{parent:016x}").as_bytes()),
                None => _ = headers.remove("x-b3-parentspanid"),
            }
            // The flag of debugging stands for the decision (openzipkin/b3-propagation).
            if out.debug {
                headers.set("x-b3-flags", b"1");
                headers.remove("x-b3-sampled");
            } else {
                headers.set("x-b3-sampled", sampled.to_string().as_bytes());
            }
        }
        Format::B3Single => {
            let decision = match (out.debug, out.sampled) {
                (true, _) => "-d",
                (false, true) => "-1",
                (false, false) if out.quiet_when_unsampled => "",
                (false, false) => "-0",
            };
            let parent = out.parent.map(|parent| format!("-{parent:016x}")).unwrap_or_default();
            headers.set("b3", format!("{}-{span:016x}{decision}{parent}", out.trace.hex()).as_bytes());
        }
        Format::W3c => headers.set("traceparent", format!("00-{:032x}-{span:016x}-{sampled:02x}", out.trace.value).as_bytes()),
        Format::Jaeger => {
            let parent = out.parent.map_or_else(|| "0".to_owned(), |parent| format!("{parent:016x}"));
            headers.set("uber-trace-id", format!("{}:{span:016x}:{parent}:{sampled:02x}", out.trace.hex()).as_bytes());
        }
        Format::Ot => {
            headers.set("ot-tracer-traceid", out.trace.hex().as_bytes());
            headers.set("ot-tracer-spanid", format!("{span:016x}").as_bytes());
            headers.set("ot-tracer-sampled", sampled.to_string().as_bytes());
        }
        Format::Datadog => {
            headers.set("x-datadog-trace-id", (out.trace.value as u64).to_string().as_bytes());
            headers.set("x-datadog-parent-id", span.to_string().as_bytes());
            headers.set("x-datadog-sampling-priority", sampled.to_string().as_bytes());
        }
        Format::Aws => headers.set("x-amzn-trace-id", format!("Root={};Parent={span:016x};Sampled={sampled}", root(out)).as_bytes()),
        Format::Gcp => headers.set("x-cloud-trace-context", format!("{:032x}/{span};o={sampled}", out.trace.value).as_bytes()),
    }
}

/// A trace's id as log records tell it in this format.
pub fn id_for_logs(format: Format, out: &Outgoing) -> String {
    match format {
        Format::B3 | Format::B3Single | Format::Jaeger | Format::Ot => out.trace.hex(),
        Format::W3c | Format::Gcp => format!("{:032x}", out.trace.value),
        Format::Datadog => (out.trace.value as u64).to_string(),
        Format::Aws => root(out),
    }
}

fn root(out: &Outgoing) -> String {
    let id = format!("{:032x}", out.trace.value);
    format!("1-{}-{}", &id[..8], &id[8..])
}
