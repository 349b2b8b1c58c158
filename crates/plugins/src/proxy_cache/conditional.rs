//! Conditional requests that are answered from memory, as nginx answers them for Kong: only responses of status 200 are compared,
//! entity tags weakly, dates exactly.

use portcullis_plugin::Headers;

use super::cache::Kept;

/// What a request gets of a kept response.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Whole,
    /// The client has it already.
    NotModified,
    /// The client wanted it only if it were what it has, and it is not.
    Failed,
}

/// What a request with these headers gets.
pub fn of(asked: &Headers, kept: &Kept) -> Outcome {
    if kept.status != 200 {
        return Outcome::Whole;
    }
    let header = |name: &str| kept.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| &**value);
    let (tag, changed) = (header("etag"), header("last-modified").and_then(date));
    if let Some(before) = asked.get("if-unmodified-since")
        && changed.is_none_or(|changed| date(before).is_none_or(|before| changed > before))
    {
        return Outcome::Failed;
    }
    if asked.get("if-match").is_some_and(|tags| !names(tags, tag, false)) {
        return Outcome::Failed;
    }
    let (since, none_of) = (asked.get("if-modified-since"), asked.get("if-none-match"));
    let is_other =
        since.is_some_and(|since| changed.is_none() || date(since) != changed) || none_of.is_some_and(|tags| !names(tags, tag, true));
    if is_other || (since.is_none() && none_of.is_none()) { Outcome::Whole } else { Outcome::NotModified }
}

/// Headers that tell of a body, which a 304 has none of.
pub fn is_of_the_body(name: &str) -> bool {
    ["content-type", "content-encoding", "content-length", "accept-ranges"].iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Whether a list of entity tags names this one. `weakly` takes a weak tag for its strong twin.
fn names(tags: &[u8], tag: Option<&[u8]>, weakly: bool) -> bool {
    if tags.trim_ascii() == b"*" {
        return true;
    }
    let bare = |tag: &[u8]| if weakly { tag.strip_prefix(b"W/").unwrap_or(tag).to_vec() } else { tag.to_vec() };
    tag.is_some_and(|tag| tags.split(|byte| *byte == b',').any(|known| bare(known.trim_ascii()) == bare(tag)))
}

fn date(text: &[u8]) -> Option<std::time::SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "Sat, 31 Jan 2026 00:00:00 GMT";
    const NEXT_DAY: &str = "Sun, 01 Feb 2026 00:00:00 GMT";

    fn outcome(status: u16, asked: &[(&str, &str)]) -> Outcome {
        let mut headers = Headers::default();
        asked.iter().for_each(|(name, value)| headers.append(name, value.as_bytes()));
        let kept = [("ETag", "\"a\""), ("Last-Modified", DAY)];
        let kept = kept.map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).into();
        of(
            &headers,
            &Kept { status, headers: kept, body: Default::default(), request_body: Default::default(), at: 0, lifetime: 1.0, gone_at: 1 },
        )
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        for asked in [
            [("If-None-Match", "\"a\"")].as_slice(),
            &[("If-None-Match", "\"x\", W/\"a\"")],
            &[("If-None-Match", "*")],
            &[("If-Modified-Since", DAY)],
            &[("If-None-Match", "\"a\""), ("If-Modified-Since", DAY)],
        ] {
            assert_eq!(outcome(200, asked), Outcome::NotModified, "{asked:?}");
            assert_eq!(outcome(404, asked), Outcome::Whole, "{asked:?}");
        }
        for asked in [
            [("If-None-Match", "\"b\"")].as_slice(),
            &[("If-None-Match", "a")],
            &[("If-Modified-Since", NEXT_DAY)],
            &[("If-Modified-Since", "yesterday")],
            &[("If-None-Match", "\"a\""), ("If-Modified-Since", NEXT_DAY)],
            &[("Accept", "*/*")],
        ] {
            assert_eq!(outcome(200, asked), Outcome::Whole, "{asked:?}");
        }
    }

    #[test]
    fn a_client_that_wants_no_other_is_refused_another() {
        assert_eq!(outcome(200, &[("If-Match", "\"b\"")]), Outcome::Failed);
        assert_eq!(outcome(200, &[("If-Match", "\"b\", \"a\"")]), Outcome::Whole);
        assert_eq!(outcome(200, &[("If-Unmodified-Since", "Fri, 30 Jan 2026 00:00:00 GMT")]), Outcome::Failed);
        assert_eq!(outcome(200, &[("If-Unmodified-Since", NEXT_DAY)]), Outcome::Whole);
    }
}
