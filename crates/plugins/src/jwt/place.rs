//! Where tokens are looked for.

use std::borrow::Cow;

use portcullis_plugin::Request;

use crate::arguments;

/// The names that may carry the token.
pub struct Places {
    pub arguments: Vec<String>,
    pub cookies: Vec<String>,
    pub headers: Vec<String>,
}

/// What came of looking for the token.
#[derive(Debug, PartialEq, Eq)]
pub enum Search {
    Missing,
    /// Different tokens. The same one in several places is one.
    Several,
    /// An argument without a value.
    NoText,
    Found(Vec<u8>),
}

impl Places {
    pub fn search(&self, request: &Request) -> Search {
        let mut found = Search::Missing;
        let query = request.upstream.query.as_deref().unwrap_or_default();
        for name in &self.arguments {
            for (_, value) in arguments::pairs(query).filter(|(key, _)| *arguments::decode(key) == *name.as_bytes()) {
                found = match value {
                    None => found.and(Search::NoText),
                    Some(value) => found.and_text(arguments::decode(value)),
                };
            }
        }
        for name in &self.cookies {
            if let Some(value) = request.head.headers.get_all("Cookie").find_map(|cookies| cookie(cookies, name)) {
                found = found.and_text(Cow::Borrowed(value));
            }
        }
        for name in &self.headers {
            if let Some(token) = request.head.headers.get(name).and_then(bearer) {
                found = found.and_text(Cow::Borrowed(token));
            }
        }
        found
    }
}

impl Search {
    fn and(self, other: Search) -> Search {
        match self {
            Search::Missing => other,
            same if same == other => same,
            _ => Search::Several,
        }
    }

    fn and_text(self, token: Cow<'_, [u8]>) -> Search {
        if token.is_empty() { self } else { self.and(Search::Found(token.into_owned())) }
    }
}

/// The value of a cookie. Its name is read as nginx' `$cookie_` reads it, in capitals or not.
fn cookie<'a>(cookies: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pairs = cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let named = pairs.filter_map(|pair| pair.split_at_checked(name.len()).filter(|(text, _)| text.eq_ignore_ascii_case(name.as_bytes())));
    named.filter_map(|(_, rest)| rest.strip_prefix(b"=")).next()
}

/// What follows `Bearer` or `bearer` and blanks, wherever they stand.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let scheme = header.windows(6).position(|word| matches!(word, b"Bearer" | b"bearer"))?;
    let rest = &header[scheme + 6..];
    let token = rest.trim_ascii_start();
    (token.len() < rest.len()).then_some(token)
}

#[cfg(test)]
mod tests {
    use portcullis_plugin::testing::TestRequest;

    use super::*;

    fn places() -> Places {
        Places { arguments: vec!["jwt".into(), "t".into()], cookies: vec!["mug".into()], headers: vec!["X-Pass".into()] }
    }

    fn search(target: &str, headers: &[(&str, &str)]) -> Search {
        let request = headers.iter().fold(TestRequest::get(target), |request, (name, value)| request.header(name, value));
        places().search(&request.build())
    }

    fn found(token: &str) -> Search {
        Search::Found(token.as_bytes().to_vec())
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        assert_eq!(search("/?t=abc", &[]), found("abc"));
        assert_eq!(search("/", &[("Cookie", "other=1; mug=abc")]), found("abc"));
        assert_eq!(search("/", &[("Cookie", "Mug=abc; mug=abd")]), found("abc"));
        assert_eq!(search("/", &[("X-Pass", "bearer   abc")]), found("abc"));
    }

    #[test]
    fn other_schemes_and_names_carry_none() {
        for header in ["abc", "BEARER abc", "Token abc", "Bearer", "Bearer "] {
            assert_eq!(search("/", &[("X-Pass", header), ("Authorization", "Bearer abc")]), Search::Missing, "{header}");
        }
        assert_eq!(search("/?jwt=&u=abc", &[("Cookie", "amug=abc")]), Search::Missing);
    }

    #[test]
    fn one_token_in_several_places_is_one_and_two_are_too_many() {
        assert_eq!(search("/?jwt=abc&jwt=abc", &[("X-Pass", "Bearer abc")]), found("abc"));
        assert_eq!(search("/?jwt=abc&jwt=abd", &[]), Search::Several);
        assert_eq!(search("/?jwt=abc", &[("Cookie", "mug=abd")]), Search::Several);
    }

    #[test]
    fn an_argument_without_value_is_no_token() {
        assert_eq!(search("/?jwt", &[]), Search::NoText);
    }
}
