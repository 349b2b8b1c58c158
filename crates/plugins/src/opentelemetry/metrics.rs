//! The series of `/metrics`, sent to a collector every now and then (`otlp_metrics_endpoint`; not an affair of Kong's plugin).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_plugin::{Env, Result};
use tokio::time::{MissedTickBehavior, interval_at};
use tracing::warn;

use super::SCOPE;
use super::protobuf::Message;
use crate::http_client::Poster;
use crate::prometheus::exposition;
use crate::prometheus::out::{Buckets, Kind, Labels, Out};

/// How long connecting may take, and sending with waiting for the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

/// Where metrics are sent, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsTo {
    pub endpoint: String,
    pub headers: BTreeMap<String, String>,
    pub interval: Duration,
}

/// Sends what there is to tell.
pub struct MetricsSender {
    poster: Poster,
    resource: Vec<u8>,
    /// When counting began, in nanoseconds since the epoch.
    begun: u64,
    interval: Duration,
    env: Env,
}

impl MetricsSender {
    /// Errors when the address or a header cannot be sent as it is.
    pub fn new(to: &MetricsTo, env: Env) -> Result<Self> {
        let poster = Poster::new(&to.endpoint, "application/x-protobuf", &to.headers, CONNECT_TIMEOUT, TIMEOUT)?;
        Ok(Self { poster, resource: super::resource(&BTreeMap::new(), &env), begun: now(), interval: to.interval, env })
    }

    /// Sends at every interval, for as long as it is polled. What could not be sent is in what is sent next: sums go on.
    pub async fn run(&self) {
        let mut interval = interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.send().await;
        }
    }

    /// Sends what there is to tell now.
    pub async fn send(&self) {
        let mut metrics = Metrics { begun: self.begun, now: now(), ..Metrics::default() };
        exposition::tell(&self.env, &mut metrics);
        let metrics = metrics.finish();
        let mut request = Message(Vec::with_capacity(metrics.0.len() + 512));
        // `ExportMetricsServiceRequest` of one `ResourceMetrics` with one `ScopeMetrics`.
        request.message(1, |of_resource| {
            of_resource.bytes(1, &self.resource);
            of_resource.message(2, |scoped| {
                scoped.message(1, |scope| {
                    scope.bytes(1, SCOPE.0.as_bytes());
                    scope.bytes(2, SCOPE.1.as_bytes());
                });
                scoped.0.extend_from_slice(&metrics.0);
            });
        });
        match self.poster.post(request.0).await {
            Ok(200) => {}
            Ok(status) => warn!(status, collector = %self.poster.uri(), "metrics were not taken"),
            Err(reason) => warn!(reason, "metrics could not be sent"),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// The list of `Metric` messages in the making.
#[derive(Default)]
struct Metrics {
    begun: u64,
    now: u64,
    done: Message,
    name: &'static str,
    help: &'static str,
    kind: Option<Kind>,
    /// The points of the metric at hand.
    points: Message,
}

impl Metrics {
    /// Closes the metric at hand. One without points is left out, as there is nothing to tell of it.
    fn close(&mut self) {
        let Some(kind) = self.kind.take() else { return };
        let points = std::mem::take(&mut self.points);
        if points.0.is_empty() {
            return;
        }
        let (name, help) = (self.name, self.help);
        // `ScopeMetrics.metrics`
        self.done.message(2, |metric| {
            metric.bytes(1, name.as_bytes());
            metric.bytes(2, help.as_bytes());
            let data = match kind {
                Kind::Gauge => 5,
                Kind::Counter => 7,
                Kind::Histogram => 9,
            };
            metric.message(data, |data| {
                data.0.extend_from_slice(&points.0);
                if kind != Kind::Gauge {
                    data.varint(2, CUMULATIVE);
                }
                if kind == Kind::Counter {
                    data.varint(3, 1);
                }
            });
        });
    }

    fn finish(mut self) -> Message {
        self.close();
        self.done
    }

    /// A `NumberDataPoint`.
    fn point(&mut self, labels: Labels<'_>, value: impl FnOnce(&mut Message)) {
        let (begun, now, gauge) = (self.begun, self.now, self.kind == Some(Kind::Gauge));
        self.points.message(1, |point| {
            if !gauge {
                point.fixed64(2, begun);
            }
            point.fixed64(3, now);
            value(point);
            labels.iter().for_each(|(name, value)| point.attribute(7, name, value.as_bytes()));
        });
    }
}

impl Out for Metrics {
    fn head(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.close();
        (self.name, self.kind, self.help) = (name, Some(kind), help);
    }

    fn whole(&mut self, labels: Labels<'_>, value: u64) {
        self.point(labels, |point| point.fixed64(6, value));
    }

    fn real(&mut self, labels: Labels<'_>, value: f64) {
        self.point(labels, |point| point.fixed64(4, value.to_bits()));
    }

    fn histogram(&mut self, labels: Labels<'_>, buckets: &Buckets<'_>) {
        let (begun, now) = (self.begun, self.now);
        // `HistogramDataPoint`
        self.points.message(1, |point| {
            point.fixed64(2, begun);
            point.fixed64(3, now);
            point.fixed64(4, buckets.counts.iter().sum::<u64>() + buckets.larger);
            point.fixed64(5, (buckets.sum as f64).to_bits());
            point.message(6, |counts| {
                buckets.counts.iter().chain([&buckets.larger]).for_each(|count| counts.0.extend_from_slice(&count.to_le_bytes()));
            });
            point.message(7, |bounds| {
                buckets.bounds.iter().for_each(|bound| bounds.0.extend_from_slice(&f64::from(*bound).to_le_bytes()));
            });
            for exemplar in buckets.exemplars {
                point.message(8, |told| {
                    told.fixed64(2, exemplar.at_ms * 1_000_000);
                    told.fixed64(3, (exemplar.value as f64).to_bits());
                    if let Ok(trace) = u128::from_str_radix(&exemplar.trace, 16) {
                        told.bytes(5, &trace.to_be_bytes());
                    }
                });
            }
            labels.iter().for_each(|(name, value)| point.attribute(9, name, value.as_bytes()));
        });
    }
}
