//! JSON values spelled as Lua tables: Kong's messages carry keys and nested complaints that way.

use serde_json::{Map, Value};

/// One line, keys sorted: `{consumer=null,name="x"}`. How Kong names a key in unique and primary key violations.
pub fn key(fields: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_table(&Value::Object(fields.clone()), None, &mut out);
    out
}

/// One line without the outer braces being special: how Kong prints what is wrong with a declarative document.
pub fn inline(value: &Value) -> String {
    let mut out = String::new();
    write_table(value, None, &mut out);
    out
}

/// Several lines, two spaces a level, as Kong's pretty printer writes nested complaints.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write_table(value, Some(0), &mut out);
    out
}

/// Writes a value over several lines from an indentation on, or in one line without spaces.
fn write_table(value: &Value, depth: Option<usize>, out: &mut String) {
    let assign = if depth.is_some() { " = " } else { "=" };
    let entries: Vec<(Option<String>, &Value)> = match value {
        // A list with holes: elements keep their place by name from the first hole on.
        Value::Array(list) => {
            let whole = list.iter().position(Value::is_null).unwrap_or(list.len());
            let named = |at: usize| (at >= whole).then(|| format!("[{}]", at + 1));
            list.iter().enumerate().filter(|(_, element)| !element.is_null()).map(|(at, element)| (named(at), element)).collect()
        }
        Value::Object(fields) => {
            // Numbers from one on are places, as in a list.
            let counted = (1..).map_while(|at: usize| fields.get(&at.to_string())).map(|field| (None, field));
            let counted: Vec<(Option<String>, &Value)> = counted.collect();
            let is_place = |name: &str| name.parse::<usize>().is_ok_and(|at| (1..=counted.len()).contains(&at));
            let mut named: Vec<_> = fields.iter().filter(|(name, _)| !is_place(name)).collect();
            named.sort_by_key(|(name, _)| name.as_str());
            let named = named.into_iter().map(|(name, field)| (Some(table_key(name)), field));
            counted.iter().cloned().chain(named).collect()
        }
        other => return out.push_str(&scalar(other)),
    };
    if entries.is_empty() {
        return out.push_str("{}");
    }
    let break_line = |out: &mut String, depth: Option<usize>| {
        if let Some(depth) = depth {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    let deeper = depth.map(|depth| depth + 1);
    out.push('{');
    for (at, (name, entry)) in entries.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        break_line(out, deeper);
        if let Some(name) = name {
            out.push_str(name);
            out.push_str(assign);
        }
        write_table(entry, deeper, out);
    }
    break_line(out, depth);
    out.push('}');
}

/// Words that Lua keeps for itself.
const RESERVED: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not", "or", "repeat",
    "return", "then", "true", "until", "while",
];

/// A bare word where Lua allows one, else `["…"]`.
fn table_key(name: &str) -> String {
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if word && !name.is_empty() && !RESERVED.contains(&name) { name.to_owned() } else { format!("[{}]", quoted(name)) }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => text(other),
    }
}

fn quoted(text: &str) -> String {
    if text.contains('\n') && !text.contains('\r') && !text.contains("]]") {
        return format!("[[{text}]]");
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r"))
}

/// A value as Lua's `tostring` gives it: what complaints quote.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => self::number(float),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// The first element as complaints quote it.
pub fn first(list: &[Value]) -> String {
    match list.first() {
        None => "nil".to_owned(),
        Some(Value::Null) => "userdata: NULL".to_owned(),
        Some(Value::Array(_) | Value::Object(_)) => "table".to_owned(),
        Some(other) => text(other),
    }
}

/// A number without a fraction if it has none.
pub fn number(float: f64) -> String {
    if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 { format!("{}", float as i64) } else { format!("{float}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_null_is_spelled_out() {
        let Value::Object(fields) = json!({ "service": { "id": "s" }, "name": "x", "route": null }) else { return };
        assert_eq!(key(&fields), r#"{name="x",route=null,service={id="s"}}"#);
    }

    #[test]
    fn names_that_are_no_words_are_bracketed() {
        assert_eq!(pretty(&json!({ "@entity": ["x"], "a": 1 })), "{\n  [\"@entity\"] = {\n    \"x\"\n  },\n  a = 1\n}");
    }

    #[test]
    fn a_list_names_its_elements_after_a_hole() {
        assert_eq!(pretty(&json!(["a", null, "b"])), "{\n  \"a\",\n  [3] = \"b\"\n}");
    }
}
