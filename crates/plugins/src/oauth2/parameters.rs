//! What a request to the token endpoints says: query arguments, and above them the fields of its body.

use portcullis_plugin::{Method, Request};
use serde_json::{Map, Value};

use crate::body::{self, Body};

pub struct Parameters(Map<String, Value>);

impl Parameters {
    pub fn of(request: &Request) -> Self {
        let mut fields = match body::arguments_value(request.upstream.query.as_deref().unwrap_or_default()) {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        if has_body_parameters(request)
            && let Some(Value::Object(more)) = Body::of(request).map(|body| body.to_value())
        {
            fields.extend(more);
        }
        Self(fields)
    }

    /// What stands under a name, whatever it is. Null and false are as good as nothing.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !matches!(value, Value::Null | Value::Bool(false)))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

/// Whether the body of a request of this method is looked at.
pub fn has_body_parameters(request: &Request) -> bool {
    matches!(request.head.method, Method::Post | Method::Put | Method::Patch)
}

/// Arguments as text, names in order. Everything but letters, digits and `_` is escaped, as Kong does it here.
pub fn encode(arguments: &Map<String, Value>) -> String {
    let mut pairs: Vec<(&String, &Value)> = arguments.iter().collect();
    pairs.sort_by_key(|(name, _)| *name);
    let mut text = String::new();
    for (name, value) in pairs {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            if !text.is_empty() {
                text.push('&');
            }
            escape(name, &mut text);
            match value {
                Value::Bool(true) => {}
                Value::String(value) => {
                    text.push('=');
                    escape(value, &mut text);
                }
                value => {
                    text.push('=');
                    escape(&value.to_string(), &mut text);
                }
            }
        }
    }
    text
}

fn escape(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portcullis_plugin::testing::TestRequest;
    use serde_json::json;

    #[test]
    fn the_body_goes_before_the_query() {
        let request = TestRequest::new("POST", "/oauth2/token?a=1&b=2&d").body("application/x-www-form-urlencoded", "b=3&c=x%20y").build();
        let parameters = Parameters::of(&request);
        assert_eq!(["a", "b", "c"].map(|name| parameters.text(name)), [Some("1"), Some("3"), Some("x y")]);
        assert_eq!((parameters.get("d"), parameters.text("d")), (Some(&Value::Bool(true)), None));
    }

    #[test]
    fn arguments_are_written_in_order_and_escaped() {
        let arguments = json!({ "state": "st-1 x", "error_description": "a, \"b\"", "flag": true, "list": ["1", "2"], "n": 7 });
        let text = encode(arguments.as_object().unwrap());
        assert_eq!(text, "error_description=a%2c%20%22b%22&flag&list=1&list=2&n=7&state=st%2d1%20x");
    }
}
