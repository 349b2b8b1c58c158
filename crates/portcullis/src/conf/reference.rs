//! The reference page of all keys, made from the table.

use std::fmt::Write as _;

use super::keys::{ALIASES, Key, Kind, TOPICS};

/// The page in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Every key of the configuration file, made from the program's own table (`crates/portcullis/src/conf/keys`). A key is set \
         in the file as `key = value`, or in the environment as `KONG_<KEY>` or `PORTCULLIS_<KEY>`; the environment goes before the \
         file, and our own name before Kong's. `#` starts a comment, `\\#` is a hash. A value may be a reference to an environment \
         variable: `{vault://env/my-secret}`.\n\n\
         The file is the one named with `-c`, or the first of `/etc/portcullis/portcullis.conf`, `/etc/portcullis.conf`, \
         `/etc/kong/kong.conf` and `/etc/kong.conf`.\n\n\
         Keys marked ○ are accepted, so that a file written for Kong loads unchanged, and have no effect.\n",
    );
    for topic in TOPICS {
        let _ = write!(page, "\n## {}\n\n| key | type | default | meaning |\n|---|---|---|---|\n", topic.title);
        for key in topic.keys {
            let mark = if key.acted_on { "" } else { " ○" };
            let _ = writeln!(page, "| `{}`{mark} | {} | {} | {} |", key.name, type_of(key), default_of(key), key.doc);
        }
    }
    page.push_str(
        "\nOther `nginx_<block>_<directive>` keys are accepted and ignored with a warning. The directives above with `nginx_http_` \
         may be set with `nginx_proxy_` or `nginx_location_` too; the innermost counts, and `NONE` takes a directive back.\n\n\
         ## Other names\n\n| name | stands for |\n|---|---|\n",
    );
    for alias in ALIASES {
        let mark = if alias.deprecated { " (deprecated)" } else { "" };
        let _ = writeln!(page, "| `{}`{mark} | `{}` |", alias.name, alias.stands_for);
    }
    page
}

fn type_of(key: &Key) -> String {
    match key.kind {
        Kind::Text => "text".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Boolean | Kind::OnOff => "`on` or `off`".to_owned(),
        Kind::List => "list".to_owned(),
        Kind::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
    }
}

fn default_of(key: &Key) -> String {
    if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) }
}
