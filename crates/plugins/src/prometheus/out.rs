//! What figures are told to: text for those who scrape, and whatever else takes series ([`Out`]).

use crate::number::{self, Digits};

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// How many values fell below each bound, and what is known of single ones.
pub struct Buckets<'a> {
    /// Upper bounds, ascending.
    pub bounds: &'a [u32],
    /// Values in each bucket alone, and at last those beyond all bounds.
    pub counts: &'a [u64],
    pub larger: u64,
    pub sum: u64,
    pub exemplars: &'a [Exemplar],
}

/// A value that a trace tells more about.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The bucket it fell into.
    pub bucket: u8,
    pub trace: Box<str>,
    pub value: u64,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
}

/// Takes series, those of one metric after its head.
pub trait Out {
    fn head(&mut self, name: &'static str, kind: Kind, help: &'static str);
    fn whole(&mut self, labels: Labels<'_>, value: u64);
    fn real(&mut self, labels: Labels<'_>, value: f64);
    fn histogram(&mut self, labels: Labels<'_>, buckets: &Buckets<'_>);
}

/// Prometheus' text format 0.0.4, or OpenMetrics 1.0.
pub struct Text {
    out: Vec<u8>,
    name: &'static str,
    open_metrics: bool,
    /// The labels of the series at hand.
    labels: Vec<u8>,
}

impl Text {
    /// Text of about so many bytes.
    pub fn new(open_metrics: bool, capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity), name: "", open_metrics, labels: Vec::new() }
    }

    pub fn finish(mut self) -> String {
        if self.open_metrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
        // All that went in was text.
        String::from_utf8(self.out).unwrap_or_default()
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, value: u64) {
        self.out.extend_from_slice(Digits::of(value).as_bytes());
    }

    fn take_labels(&mut self, labels: Labels<'_>) {
        self.labels.clear();
        for (at, (name, value)) in labels.iter().enumerate() {
            if at > 0 {
                self.labels.push(b',');
            }
            self.labels.extend_from_slice(name.as_bytes());
            self.labels.extend_from_slice(b"=\"");
            escape(&mut self.labels, value);
            self.labels.push(b'"');
        }
    }

    /// Name and labels of a line.
    fn begin(&mut self, labels: Labels<'_>) {
        self.take_labels(labels);
        self.put(self.name);
        if !self.labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(&self.labels);
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }
}

impl Out for Text {
    fn head(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        // Counters of OpenMetrics are named without the end that their samples have. One that has no such end keeps its name, as
        // something of which nothing is known.
        let total = name.strip_suffix("_total");
        let (family, kind) = match (self.open_metrics, kind, total) {
            (true, Kind::Counter, Some(family)) => (family, "counter"),
            (true, Kind::Counter, None) => (name, "unknown"),
            (_, Kind::Counter, _) => (name, "counter"),
            (_, Kind::Gauge, _) => (name, "gauge"),
            (_, Kind::Histogram, _) => (name, "histogram"),
        };
        self.name = name;
        for part in ["# HELP ", family, " ", help, "\n# TYPE ", family, " ", kind, "\n"] {
            self.put(part);
        }
    }

    fn whole(&mut self, labels: Labels<'_>, value: u64) {
        self.begin(labels);
        self.number(value);
        self.out.push(b'\n');
    }

    fn real(&mut self, labels: Labels<'_>, value: f64) {
        self.begin(labels);
        self.put(&number::text(value));
        self.out.push(b'\n');
    }

    fn histogram(&mut self, labels: Labels<'_>, buckets: &Buckets<'_>) {
        // What all lines of the buckets begin with is put together once: a scrape of many routes is mostly these lines.
        self.take_labels(labels);
        let labels = std::mem::take(&mut self.labels);
        let comma = if labels.is_empty() { "" } else { "," };
        let start = [self.name.as_bytes(), b"_bucket{", &labels, comma.as_bytes(), b"le=\""].concat();
        let mut below = 0;
        let bounds = buckets.bounds.iter().map(Some).chain([None]);
        for (bucket, (bound, count)) in bounds.zip(buckets.counts.iter().chain([&buckets.larger])).enumerate() {
            below += count;
            self.out.extend_from_slice(&start);
            match bound {
                Some(bound) => self.number(u64::from(*bound)),
                None => self.put("+Inf"),
            }
            self.put("\"} ");
            self.number(below);
            if self.open_metrics
                && let Some(exemplar) = buckets.exemplars.iter().find(|exemplar| usize::from(exemplar.bucket) == bucket)
            {
                self.put(" # {trace_id=\"");
                escape(&mut self.out, &exemplar.trace);
                self.put("\"} ");
                self.number(exemplar.value);
                self.put(&format!(" {}.{:03}", exemplar.at_ms / 1000, exemplar.at_ms % 1000));
            }
            self.out.push(b'\n');
        }
        for (suffix, value) in [("_count{", below), ("_sum{", buckets.sum)] {
            self.put(self.name);
            self.put(suffix);
            self.out.extend_from_slice(&labels);
            self.put("} ");
            self.number(value);
            self.out.push(b'\n');
        }
        self.labels = labels;
    }
}

/// Backslash, quote and line feed are the characters a label value escapes.
fn escape(out: &mut Vec<u8>, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        return out.extend_from_slice(value.as_bytes());
    }
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
}
