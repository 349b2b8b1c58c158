//! What the settings of a model must keep.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Entry;
use portcullis_plugin::testing::configured;
use serde_json::{Value, json};

use crate::ai_proxy::AiProxy;
use crate::ai_request_transformer::AiRequestTransformer;

fn complaint(config: Value) -> Value {
    configured(&Entry::of::<AiProxy>(), config).unwrap_err().fields.unwrap()
}

#[test]
fn providers_need_options_of_their_own() {
    for (provider, needs) in [
        (
            "llama2",
            vec!["'model.options.llama2_format' for llama2 provider", "'model.options.upstream_url' for self-hosted providers/models"],
        ),
        ("mistral", vec!["'model.options.mistral_format' for mistral provider"]),
        ("anthropic", vec!["'model.options.anthropic_version' for anthropic provider"]),
    ] {
        let said: Vec<String> = needs.iter().map(|need| format!("must set {need}")).collect();
        let config = json!({ "route_type": "llm/v1/chat", "model": { "provider": provider } });
        assert_eq!(complaint(config), json!({ "config": { "@entity": said } }));
    }
}

#[test]
fn anthropic_tells_no_figures_of_completions() {
    let config = json!({
        "route_type": "llm/v1/completions", "logging": { "log_statistics": true },
        "model": { "provider": "anthropic", "options": { "anthropic_version": "2023-06-01" } },
    });
    let said = "anthropic does not support statistics when route_type is llm/v1/completions";
    assert_eq!(complaint(config), json!({ "config": { "@entity": [said] } }));
}

#[test]
fn transformers_chat() {
    let config = json!({ "prompt": "p", "llm": { "route_type": "preserve", "model": { "provider": "openai" } } });
    let fields = configured(&Entry::of::<AiRequestTransformer>(), config).unwrap_err().fields.unwrap();
    assert_eq!(fields["@entity"], json!(["'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins"]));
}
