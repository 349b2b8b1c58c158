//! The language of the `expressions` router: which texts are conditions, over which fields.
//!
//! Parsing and type checks are the `atc-router` crate's, so that the same texts are refused in the same words. Two things go
//! before it, because they would take it down: nesting beyond [`DEEPEST`], and `not in` spelled other than with one space.

use std::sync::LazyLock;

use atc_router::ast::Type;
pub use atc_router::ast::{BinaryOperator, Expression, LhsTransformations, LogicalExpression, Predicate, Value};
use atc_router::schema::Schema;
use atc_router::semantics::Validate as _;

/// Brackets that may be open at once: the parser recurses for each.
pub const DEEPEST: usize = 64;
/// The longest text that is looked at, in bytes.
pub const LONGEST: usize = 64 * 1024;

static HTTP: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = stream_fields();
    for field in ["http.method", "http.host", "http.path", "http.path.segments.*", "http.headers.*", "http.queries.*"] {
        schema.add_field(field, Type::String);
    }
    schema.add_field("http.path.segments.len", Type::Int);
    schema
});

static STREAM: LazyLock<Schema> = LazyLock::new(stream_fields);

fn stream_fields() -> Schema {
    let mut schema = Schema::default();
    for field in ["net.protocol", "tls.sni"] {
        schema.add_field(field, Type::String);
    }
    // `net.port` is the old name of the destination's port.
    for field in ["net.src.port", "net.dst.port", "net.port"] {
        schema.add_field(field, Type::Int);
    }
    for field in ["net.src.ip", "net.dst.ip"] {
        schema.add_field(field, Type::IpAddr);
    }
    schema
}

/// Reads an expression over the fields of HTTP requests, or of stream connections.
///
/// Errors with what Kong says about it.
pub fn parse(text: &str, http: bool) -> Result<Expression, String> {
    let text = spelled_for_parser(text)?;
    let expression = atc_router::parser::parse(&text).map_err(|error| error.to_string())?;
    expression.validate(if http { &HTTP } else { &STREAM })?;
    check_segments(&expression)?;
    Ok(expression)
}

/// One segment, a range of them, or their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    Len,
    One(usize),
    /// From the first to the second, both included.
    Range(usize, usize),
}

impl Segments {
    /// Reads what follows `http.path.segments.`.
    pub fn of(name: &str) -> Option<Self> {
        if name == "len" {
            return Some(Self::Len);
        }
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            if plain { text.parse::<usize>().ok() } else { None }
        };
        match name.split_once('_') {
            None => number(name).map(Self::One),
            Some((first, last)) => match (number(first)?, number(last)?) {
                (first, last) if first < last => Some(Self::Range(first, last)),
                _ => None,
            },
        }
    }
}

/// Calls `visit` with every comparison of an expression.
fn each_predicate<E>(expression: &Expression, visit: &mut impl FnMut(&Predicate) -> Result<(), E>) -> Result<(), E> {
    match expression {
        Expression::Predicate(predicate) => visit(predicate),
        Expression::Logical(logical) => match &**logical {
            LogicalExpression::And(left, right) | LogicalExpression::Or(left, right) => {
                each_predicate(left, visit)?;
                each_predicate(right, visit)
            }
            LogicalExpression::Not(inner) => each_predicate(inner, visit),
        },
    }
}

fn check_segments(expression: &Expression) -> Result<(), String> {
    each_predicate(expression, &mut |predicate| match predicate.lhs.var_name.strip_prefix("http.path.segments.") {
        Some(name) if Segments::of(name).is_none() => Err("illformed http.path.segments.* field".to_owned()),
        _ => Ok(()),
    })
}

/// The text with every `not in` spelled with one space, which is all the parser knows although its grammar takes more.
fn spelled_for_parser(text: &str) -> Result<String, String> {
    if text.len() > LONGEST {
        return Err(format!("expression is longer than {LONGEST} bytes"));
    }
    let mut spelled = String::with_capacity(text.len());
    let (mut rest, mut depth, mut terms) = (text, 0usize, 0usize);
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => quoted_len(rest),
            'r' if rest.starts_with("r#\"") => rest[3..].find("\"#").map_or(rest.len(), |end| end + 5),
            '(' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(format!("brackets are nested deeper than {DEEPEST}"));
                }
                1
            }
            ')' => {
                depth = depth.saturating_sub(1);
                1
            }
            '&' | '|' => {
                // The parsed tree leans to the left: as deep as there are operators.
                terms += 1;
                if terms > 4 * 1024 {
                    return Err("expression has too many terms".to_owned());
                }
                1
            }
            _ if first.is_ascii_alphabetic() => {
                let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
                let gap = rest[word..].len() - rest[word..].trim_start_matches([' ', '\t', '\r', '\n']).len();
                match &rest[..word] {
                    "not" if gap > 0 && rest[word + gap..].starts_with("in") => {
                        spelled.push_str("not in");
                        rest = &rest[word + gap + 2..];
                        continue;
                    }
                    glued if glued.starts_with("notin") => return Err("unknown operator: notin".to_owned()),
                    _ => word,
                }
            }
            _ => first.len_utf8(),
        };
        spelled.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(spelled)
}

/// How long the quoted text is that `rest` begins with.
fn quoted_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text, true).unwrap_err()
    }

    #[test]
    fn conditions_over_the_fields_of_a_request_are_read() {
        for text in [
            r#"http.path == "/x""#,
            r##"lower(http.headers.x_a) == r#"a"b"# || !(net.src.ip not in 10.0.0.0/8)"##,
            r#"any(lower(http.queries.q)) contains "x" && net.dst.port >= 0x1f40 && net.port == 80"#,
            r#"http.path.segments.0_2 =^ "a/b" && http.path.segments.len < 3 && net.src.ip == ::1"#,
        ] {
            parse(text, true).unwrap();
        }
        assert!(parse(r#"http.path == "/x""#, false).is_err());
        parse(r#"net.src.ip in 10.0.0.0/8 && tls.sni == "a.test""#, false).unwrap();
    }

    #[test]
    fn a_refusal_tells_what_was_expected_where() {
        assert_eq!(refusal("http.path = "), " --> 1:11\n  |\n1 | http.path = \n  |           ^---\n  |\n  = expected binary_operator");
        assert_eq!(refusal(r#"http.pat == "x""#), "Unknown LHS field");
        assert_eq!(refusal("http.path == 5"), "Type mismatch between the LHS and RHS values of predicate");
        for name in ["01", "1_1", "2_1", "1_", "x", "1_2_3", "1_02"] {
            assert_eq!(refusal(&format!("http.path.segments.{name} == \"a\"")), "illformed http.path.segments.* field", "{name}");
        }
    }

    const PIECES: &[&str] = &[
        "http.path",
        "net.src.ip",
        "net.dst.port",
        "http.path.segments.0_1",
        "tls.sni",
        "x",
        "not",
        "in",
        "notin",
        "not in",
        "contains",
        "==",
        "!=",
        "~",
        "^=",
        "=^",
        ">=",
        "<",
        "&&",
        "||",
        "!",
        "(",
        ")",
        "any(",
        "lower(",
        "\"",
        "\\",
        "r#\"",
        "\"#",
        "\"/a\"",
        "\"^(a|b)\"",
        "10.0.0.0/8",
        "10.0.0.0/33",
        "::1",
        "fe80::/10",
        ":",
        "1.2.3",
        "0x1f",
        "-",
        "08",
        "9223372036854775808",
        " ",
        "\n",
        "\u{e9}",
    ];

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_read_or_refused(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..24), spaced: bool) {
            let text = pieces.join(if spaced { " " } else { "" });
            for http in [true, false] {
                if let Err(reason) = parse(&text, http) {
                    assert!(!reason.is_empty());
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse(&text, true);
        }
    }

    #[test]
    fn what_would_take_the_parser_down_is_refused_or_spelled_for_it() {
        parse("net.src.ip not   \n in 10.0.0.0/8", true).unwrap();
        assert!(parse("net.src.ip notin 10.0.0.0/8", true).is_err());
        parse(r#"http.path == "not  in" && http.path == "(((""#, true).unwrap();
        let nested = |depth: usize| format!("{}http.path == \"/\"{}", "(".repeat(depth), ")".repeat(depth));
        parse(&nested(DEEPEST), true).unwrap();
        assert!(refusal(&nested(100_000)).starts_with("expression is longer"));
        assert!(refusal(&nested(DEEPEST + 1)).starts_with("brackets are nested"));
    }
}
