//! How traces go on from request to request, in the formats of eight tracing systems.
//!
//! [`Propagation`] is what a plugin's settings come to: the formats that requests are searched for, the headers that do not go
//! on, and the formats that upstreams get. Pure: headers in, headers out.
//!
//! - [`extract`], [`inject`]: the formats themselves

mod extract;
mod inject;
#[cfg(test)]
mod tests;

use portcullis_plugin::{Headers, Request};
use portcullis_schema::Fields;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Clone, Debug, Default, Deserialize, Fields)]
pub struct Config {
    /// The formats that requests are searched for, in this order; without it all.
    #[field(array(string().one_of(["gcp", "jaeger", "aws", "w3c", "ot", "datadog", "b3"])))]
    pub extract: Option<Vec<String>>,
    /// Headers that do not go on to the upstream.
    #[field(array(header_name()))]
    pub clear: Option<Vec<String>>,
    /// The formats that upstreams get; `preserve` is the one that was found.
    #[field(array(string().one_of(["preserve", "gcp", "b3-single", "jaeger", "aws", "w3c", "ot", "datadog", "b3"])))]
    pub inject: Option<Vec<String>>,
    /// The format where none was found.
    #[field(string().required().one_of(["gcp", "b3-single", "jaeger", "aws", "w3c", "ot", "datadog", "b3"]))]
    pub default_format: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    B3,
    B3Single,
    W3c,
    Jaeger,
    Ot,
    Datadog,
    Aws,
    Gcp,
}

/// The order in which a request is searched unless told otherwise.
const ALL: [Format; 7] = [Format::B3, Format::W3c, Format::Jaeger, Format::Ot, Format::Datadog, Format::Aws, Format::Gcp];

impl Format {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "b3" => Format::B3,
            "b3-single" => Format::B3Single,
            "w3c" => Format::W3c,
            "jaeger" => Format::Jaeger,
            "ot" => Format::Ot,
            "datadog" => Format::Datadog,
            "aws" => Format::Aws,
            "gcp" => Format::Gcp,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::B3 => "b3",
            Format::B3Single => "b3-single",
            Format::W3c => "w3c",
            Format::Jaeger => "jaeger",
            Format::Ot => "ot",
            Format::Datadog => "datadog",
            Format::Aws => "aws",
            Format::Gcp => "gcp",
        }
    }
}

/// A trace: 128 bits, or 64 where it began that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId {
    pub value: u128,
    pub short: bool,
}

impl TraceId {
    /// A trace that begins here.
    pub fn random(short: bool) -> Self {
        let value = if short { u128::from(random_id()) } else { u128::from(random_id()) << 64 | u128::from(random_id()) };
        Self { value, short }
    }

    pub fn hex(self) -> String {
        if self.short { format!("{:016x}", self.value as u64) } else { format!("{:032x}", self.value) }
    }
}

/// The id of a span that begins here; never zero.
pub fn random_id() -> u64 {
    // Halves of a random UUID, turned so that the few fixed bits of either meet random ones of the other.
    let (first, second) = Uuid::new_v4().as_u64_pair();
    (first ^ second.rotate_left(32)).max(1)
}

/// What a request came with.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    pub format: Format,
    pub trace: Option<TraceId>,
    /// The caller's span.
    pub span: Option<u64>,
    /// The parent of the caller's span.
    pub parent: Option<u64>,
    pub sampled: Option<bool>,
    /// Sampled, whatever else is decided.
    pub debug: bool,
    /// In this format caller and called share a span in Zipkin's model.
    pub shares_span: bool,
}

impl Incoming {
    fn of(format: Format) -> Self {
        Self { format, trace: None, span: None, parent: None, sampled: None, debug: false, shares_span: false }
    }
}

/// What an upstream is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub trace: TraceId,
    pub span: u64,
    pub parent: Option<u64>,
    pub sampled: bool,
    pub debug: bool,
    /// In the single b3 header an unsampled trace carries no decision (zipkin, as recorded), else a 0 (opentelemetry).
    pub quiet_when_unsampled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inject {
    /// What was found, or the default.
    Preserve,
    Format(Format),
}

/// How an instance's traces go on.
#[derive(Clone, Debug)]
pub struct Propagation {
    extract: Vec<Format>,
    clear: Vec<String>,
    inject: Vec<Inject>,
    default: Format,
}

impl Propagation {
    /// `header_type` and `default_header_type` are the older spelling, which counts where `config` gives no list.
    pub fn new(config: &Config, header_type: Option<&str>, default_header_type: Option<&str>) -> Self {
        let default = Format::named(&config.default_format).unwrap_or(Format::W3c);
        let formats =
            |names: &Option<Vec<String>>| names.as_ref().map(|names| names.iter().filter_map(|name| Format::named(name)).collect());
        if config.extract.is_some() || config.clear.is_some() || config.inject.is_some() {
            let inject = config.inject.as_ref().map(|names| {
                let inject =
                    |name: &String| if name == "preserve" { Some(Inject::Preserve) } else { Format::named(name).map(Inject::Format) };
                names.iter().filter_map(inject).collect()
            });
            return Self {
                extract: formats(&config.extract).unwrap_or_else(|| ALL.to_vec()),
                clear: config.clear.clone().unwrap_or_default(),
                inject: inject.unwrap_or_else(|| vec![Inject::Preserve]),
                default,
            };
        }
        // The newer setting counts once it is not what everybody has.
        let older = default_header_type.and_then(Format::named).filter(|_| default == Format::B3);
        let default = older.unwrap_or(default);
        let (extract, inject) = match header_type.unwrap_or("preserve") {
            "ignore" => (Vec::new(), vec![Inject::Format(default)]),
            named => {
                let more = Format::named(named).map(Inject::Format);
                (ALL.to_vec(), [Some(Inject::Preserve), more].into_iter().flatten().collect())
            }
        };
        Self { extract, clear: Vec::new(), inject, default }
    }

    /// The first format of a request that says something.
    pub fn extract(&self, headers: &Headers) -> Option<Incoming> {
        self.extract.iter().find_map(|format| extract::extract(*format, headers))
    }

    /// Tells the upstream, and the request's log records.
    pub fn inject(&self, request: &mut Request, incoming: Option<&Incoming>, out: &Outgoing) {
        let headers = &mut request.head.headers;
        for name in &self.clear {
            headers.remove(name);
        }
        let preserved = incoming.map_or(self.default, |incoming| incoming.format);
        let mut told: Vec<Format> = Vec::with_capacity(self.inject.len());
        for inject in &self.inject {
            let format = match inject {
                Inject::Preserve => preserved,
                Inject::Format(format) => *format,
            };
            if !told.contains(&format) {
                inject::inject(format, headers, out);
                told.push(format);
            }
        }
        if let Some(found) = incoming.filter(|incoming| incoming.trace.is_some() && !told.contains(&incoming.format)) {
            told.push(found.format);
        }
        for format in told {
            request.log_fields.insert(format!("trace_id.{}", format.name()), inject::id_for_logs(format, out).into());
        }
    }
}
