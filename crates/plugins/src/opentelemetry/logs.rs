//! Log lines as OTLP messages (`opentelemetry.proto.logs.v1.LogRecord`).

use portcullis_plugin::log_lines::LogLine;

use super::Trace;
use super::protobuf::Message;

/// Number and name of the severity that each of nginx' levels is, from emerg to debug.
const SEVERITIES: [(u64, &str); 8] =
    [(23, "EMERG"), (21, "ALERT"), (19, "CRIT"), (17, "ERR"), (13, "WARN"), (11, "NOTICE"), (9, "INFO"), (5, "DEBUG")];

/// What a request's lines say of the trace it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Within<'a> {
    pub request_id: Option<&'a str>,
    pub trace: Option<&'a Trace>,
    /// The root span is one that the node makes.
    pub spans: bool,
}

/// A line as its record.
pub fn record(line: &LogLine, within: Within<'_>) -> Box<[u8]> {
    let mut record = Message(Vec::with_capacity(256));
    record.fixed64(1, line.time_ns);
    record.fixed64(11, line.time_ns);
    if let Some((number, name)) = line.level.and_then(|level| SEVERITIES.get(usize::from(level).checked_sub(1)?)) {
        record.varint(2, *number);
        record.bytes(3, name.as_bytes());
    }
    record.message(5, |body| body.bytes(1, line.text.as_bytes()));
    if let Some(id) = within.request_id {
        record.attribute(6, "request.id", id.as_bytes());
    }
    line.attributes.iter().for_each(|(name, value)| record.pair(6, name, value));
    if let Some(trace) = within.trace {
        // Sampled, as in W3C's trace flags.
        record.fixed32(8, u32::from(trace.sampled));
        record.bytes(9, &trace.id.value.to_be_bytes());
        if within.spans {
            record.bytes(10, &trace.root.to_be_bytes());
        }
    }
    record.0.into()
}
