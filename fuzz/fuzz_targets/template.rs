//! Templates of request-transformer: any text is taken or refused, and what is taken renders or fails.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_plugin::testing::{TestRequest, configured, env, try_plugin};
use portcullis_plugin::{Entry, Handler, Instance, Step};
use portcullis_plugins::request_transformer::RequestTransformer;
use serde_json::json;

fuzz_target!(|input: (&str, &str)| {
    let (template, query) = input;
    let config = json!({ "add": { "headers": [format!("x-made:{template}")], "querystring": [format!("made:{template}")] }, "replace": { "uri": template } });
    let accepted = configured(&Entry::of::<RequestTransformer>(), config.clone()).is_ok();
    if !accepted || query.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return;
    }
    let made = try_plugin::<RequestTransformer>(config, &Instance::default(), &env()).expect("what the schema takes can be made");
    let mut request = TestRequest::get(&format!("/path?{query}")).header("x-one", "1").build();
    let step = made.access(&mut request);
    assert!(matches!(step, Step::Next | Step::Fail(_)));
});
