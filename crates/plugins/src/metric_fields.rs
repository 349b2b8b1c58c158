//! What the plugins that send figures about exchanges have in common.

use portcullis_schema::{Check, Field, Rule, build};

/// What of a consumer a figure tells.
pub fn consumer_identifier() -> Field {
    build::string().one_of(["consumer_id", "custom_id", "username"])
}

/// Counters and gauges tell how many of them are sent.
pub fn needs_sample_rate() -> Check {
    Check::Conditional {
        if_field: "stat_type",
        if_match: vec![Rule::OneOf(vec!["counter".into(), "gauge".into()])],
        then_field: "sample_rate",
        then_match: Vec::new(),
        then_required: true,
        then_error: None,
    }
}
