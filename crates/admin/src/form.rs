//! Names of form fields that say where in a record a value belongs: `config.redis.host`, `hosts[]`, `paths[1]`,
//! `config.headers[x-key]`.

use portcullis_schema::Record;
use serde_json::Value;

/// One step from a record to a value.
#[derive(Debug, PartialEq)]
enum Step {
    Name(String),
    /// Counted from one.
    Place(usize),
    Append,
}

/// Builds a record of the fields of a form. A name given twice makes a list; values stay text.
pub fn record(fields: impl IntoIterator<Item = (String, Value)>) -> Record {
    let mut root = Node::default();
    for (name, value) in fields {
        root.put(&steps(&name), value);
    }
    root.named.into_iter().map(|(name, node)| (name, node.into_value())).collect()
}

fn steps(name: &str) -> Vec<Step> {
    let (first, mut rest) = match name.find(['.', '[']) {
        Some(0) | None => return vec![Step::Name(name.to_owned())],
        Some(at) => name.split_at(at),
    };
    let mut steps = vec![Step::Name(first.to_owned())];
    while !rest.is_empty() {
        if let Some(bracketed) = rest.strip_prefix('[') {
            let Some((inner, after)) = bracketed.split_once(']') else { return vec![Step::Name(name.to_owned())] };
            steps.push(match inner.parse::<usize>() {
                _ if inner.is_empty() => Step::Append,
                Ok(place) if place > 0 => Step::Place(place),
                _ => Step::Name(inner.to_owned()),
            });
            rest = after;
        } else {
            let dotted = rest.strip_prefix('.').unwrap_or(rest);
            let end = dotted.find(['.', '[']).unwrap_or(dotted.len());
            if end == 0 {
                return vec![Step::Name(name.to_owned())];
            }
            steps.push(Step::Name(dotted[..end].to_owned()));
            rest = &dotted[end..];
        }
    }
    steps
}

/// A value under construction.
#[derive(Default)]
struct Node {
    /// What was given for exactly this name.
    values: Vec<Value>,
    named: Vec<(String, Node)>,
    placed: Vec<(usize, Node)>,
}

impl Node {
    fn put(&mut self, steps: &[Step], value: Value) {
        let Some((step, rest)) = steps.split_first() else { return self.values.push(value) };
        let next = match step {
            Step::Name(name) => child(&mut self.named, name),
            Step::Place(place) => child(&mut self.placed, place),
            Step::Append => {
                let place = self.placed.iter().map(|(place, _)| *place).max().unwrap_or(0) + 1;
                child(&mut self.placed, &place)
            }
        };
        next.put(rest, value);
    }

    fn into_value(mut self) -> Value {
        if !self.named.is_empty() {
            let placed = self.placed.into_iter().map(|(place, node)| (place.to_string(), node));
            return Value::Object(self.named.into_iter().chain(placed).map(|(name, node)| (name, node.into_value())).collect());
        }
        if !self.placed.is_empty() {
            self.placed.sort_by_key(|(place, _)| *place);
            let placed = self.placed.into_iter().map(|(_, node)| node.into_value());
            return Value::Array(self.values.into_iter().chain(placed).collect());
        }
        match self.values.len() {
            1 => self.values.remove(0),
            _ => Value::Array(self.values),
        }
    }
}

fn child<'a, K: PartialEq + Clone>(children: &'a mut Vec<(K, Node)>, key: &K) -> &'a mut Node {
    let at = children.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
        children.push((key.clone(), Node::default()));
        children.len() - 1
    });
    &mut children[at].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn built(fields: &[(&str, &str)]) -> Value {
        Value::Object(record(fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value)))))
    }

    #[test]
    fn dots_lead_into_records() {
        assert_eq!(
            built(&[("config.redis.host", "r"), ("config.redis.port", "1")]),
            json!({"config": {"redis": {"host": "r", "port": "1"}}})
        );
    }

    #[test]
    fn brackets_make_lists_in_order_of_their_numbers() {
        assert_eq!(built(&[("hosts[]", "a"), ("hosts[]", "b")]), json!({"hosts": ["a", "b"]}));
        assert_eq!(built(&[("paths[2]", "/b"), ("paths[1]", "/a")]), json!({"paths": ["/a", "/b"]}));
        assert_eq!(built(&[("config[allow][]", "g")]), json!({"config": {"allow": ["g"]}}));
    }

    #[test]
    fn a_name_given_twice_makes_a_list() {
        assert_eq!(built(&[("key_names", "a"), ("key_names", "b")]), json!({"key_names": ["a", "b"]}));
    }

    #[test]
    fn names_in_brackets_are_keys_of_a_map() {
        assert_eq!(built(&[("headers[x-key]", "v")]), json!({"headers": {"x-key": "v"}}));
    }

    #[test]
    fn records_in_a_list_are_filled_field_by_field() {
        assert_eq!(built(&[("sources[1].ip", "::1"), ("sources[1].port", "9")]), json!({"sources": [{"ip": "::1", "port": "9"}]}));
    }

    #[test]
    fn what_makes_no_sense_stays_a_name() {
        assert_eq!(built(&[("a[b", "1"), (".x", "2"), ("a..b", "3")]), json!({"a[b": "1", ".x": "2", "a..b": "3"}));
    }
}
