//! What a node was started with, written down for `reload`, `stop` and `health` (`.kong_env` in the prefix).
//!
//! The file holds what was given (references as references, never the secrets they name), not what became of it, in lines
//! `key = value`. Values over several lines (inline PEM, inline configuration) have their line ends escaped.

use super::load::Given;

/// The text of the file.
pub fn write(given: &Given) -> String {
    let mut text = String::from("# written by the gateway when it starts and reloads; changes are lost\n");
    for (name, value) in given {
        text.push_str(name);
        text.push_str(" = ");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                _ => text.push(c),
            }
        }
        text.push('\n');
    }
    text
}

/// Reads what [`write`] wrote. Lines it did not write are passed over.
pub fn read(text: &str) -> Given {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, value)| (name.to_owned(), unescape(value))).collect()
}

fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_read_back_as_it_was() {
        let pairs = [("ssl_cert", "-----BEGIN\nAA=\n"), ("pg_password", "a#b\\n = c"), ("dns_stale_ttl", ""), ("x", " \r ")];
        let given: Given = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(read(&write(&given)), given);
    }
}
