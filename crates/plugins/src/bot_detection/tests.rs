//! Which agents pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Handler;
use portcullis_plugin::testing::{TestRequest, answer, plugin};
use serde_json::{Value, json};

use super::BotDetection;

fn status(config: Value, agents: &[&str]) -> Option<u16> {
    let request = agents.iter().fold(TestRequest::get("/"), |request, agent| request.header("User-Agent", agent));
    answer(plugin::<BotDetection>(config).access(&mut request.build())).map(|answer| answer.status)
}

#[test]
fn robots_are_refused_and_others_pass() {
    for agent in [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "Twitterbot/1.0",
        "facebookexternalhit/1.1",
        "Go-http-client/1.1",
        "okhttp/4.9.3",
        "Python-urllib/3.11",
        "Boto3/1.26 Python/3.10",
        "aws-sdk-java/1.12 Linux",
        "mybot/1.0",
        "Our Indexer 2",
        "SomeCRAWLER",
        "webscraper",
        "Mozilla/5.0 (compatible; Yahoo! Slurp)",
        "Scrapy",
        "WhatsApp/2.21",
        "Steeler/3",
        "Mozilla/5.0 Pingdom.com_bot_version_1.4",
    ] {
        assert_eq!(status(json!({}), &[agent]), Some(403), "{agent}");
    }
    for agent in [
        "curl/8.5.0",
        "python-requests/2.31",
        "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
        "Mozilla/5.0 (Linux; CUBOT NOTE S)",
        // Nothing tells these apart from names of something else.
        "mybot",
        "robotics",
        "Boto3",
        "facebookexternalhit",
        "",
    ] {
        assert_eq!(status(json!({}), &[agent]), None, "{agent}");
    }
}

#[test]
fn allowed_agents_pass_even_if_they_are_robots_or_denied() {
    let config = json!({ "allow": ["^Googlebot"], "deny": ["Google"] });
    assert_eq!(status(config, &["Googlebot/2.1"]), None);
}

#[test]
fn denied_agents_are_refused() {
    assert_eq!(status(json!({ "deny": ["^curl/"] }), &["curl/8.5.0"]), Some(403));
}

#[test]
fn an_agent_is_one_thing_or_says_nothing() {
    assert_eq!(status(json!({}), &["a", "b"]), Some(400));
    assert_eq!(status(json!({}), &[]), None);
}
