//! The commands, their options, and how they are explained.

use super::terminal::Terminal;

/// A command as help shows it.
pub struct Command {
    pub name: &'static str,
    /// What stands after the name: sub-commands, files.
    synopsis: &'static str,
    about: &'static str,
    options: &'static [&'static str],
    /// Needs a sub-command.
    pub sub_commands: &'static [&'static str],
}

const CONF: &str = " -c,--conf        (optional string)   Configuration file.";
const PREFIX: &str = " -p,--prefix      (optional string)   Working directory, instead of the configured one.";
const NGINX_CONF: &str = " --nginx-conf     (optional string)   Accepted for compatibility.";
const NGINX_FLAGS: &str = " --nginx-conf-flags (optional string) Accepted for compatibility.";

const fn command(name: &'static str, synopsis: &'static str, about: &'static str, options: &'static [&'static str]) -> Command {
    Command { name, synopsis, about, options, sub_commands: &[] }
}

const fn group(
    name: &'static str,
    about: &'static str,
    sub_commands: &'static [&'static str],
    options: &'static [&'static str],
) -> Command {
    Command { name, synopsis: "COMMAND", about, options, sub_commands }
}

/// All commands, in the order help lists them.
pub const COMMANDS: [Command; 15] = [
    command("check", "[conf]", "Check a configuration file.", &[]),
    group(
        "config",
        "Declarative configuration: init [file], parse <file>, db_import <file>, db_export [file], diff <file>, sync <file>, rollback [N].",
        &["db_export", "db_import", "diff", "init", "parse", "rollback", "sync"],
        &[CONF, PREFIX, " --node           (optional string)   diff and sync: the Admin API of a running node, instead of the database."],
    ),
    command("drain", "", "Make the readiness probe of a running node fail.", &[CONF, PREFIX]),
    command("health", "", "Tell whether a node is running.", &[PREFIX]),
    group(
        "hybrid",
        "Prepare a hybrid deployment: gen_cert [cert key] makes a certificate that its nodes share.",
        &["gen_cert"],
        &[" -d,--days        (optional number)   Days the certificate is valid (1095)."],
    ),
    group(
        "migrations",
        "Look after the database: bootstrap, up, finish, list, reset, status.",
        &["bootstrap", "finish", "list", "reset", "status", "up"],
        &[
            " -y,--yes                             Answer yes to questions.",
            " -q,--quiet                           Say nothing.",
            " -f,--force                           Run what has run before.",
            " --db-timeout     (optional number)   Seconds a database operation may take.",
            " --lock-timeout   (default 60)        Seconds to wait for another node's migrations.",
            CONF,
            PREFIX,
        ],
    ),
    command("prepare", "", "Make the working directory without starting.", &[CONF, PREFIX, NGINX_CONF, NGINX_FLAGS]),
    command(
        "quit",
        "",
        "Stop a node once its requests are done.",
        &[
            PREFIX,
            " -t,--timeout     (default 10)        Seconds before it is stopped regardless.",
            " -w,--wait        (default 0)         Seconds to wait before it is told.",
        ],
    ),
    command("reload", "", "Make a running node read its configuration again.", &[CONF, PREFIX, NGINX_CONF, NGINX_FLAGS]),
    command(
        "restart",
        "",
        "Stop a node and start it.",
        &[
            CONF,
            PREFIX,
            NGINX_CONF,
            NGINX_FLAGS,
            " --run-migrations                     Run migrations before starting.",
            " --db-timeout     (optional number)   Seconds a database operation may take.",
            " --lock-timeout   (default 60)        Seconds to wait for another node's migrations.",
        ],
    ),
    command("roar", "", "Show the portcullis.", &[]),
    command(
        "start",
        "",
        "Start a node.",
        &[
            CONF,
            PREFIX,
            NGINX_CONF,
            NGINX_FLAGS,
            " --run-migrations                     Run migrations before starting.",
            " --db-timeout     (optional number)   Seconds a database operation may take.",
            " --lock-timeout   (default 60)        Seconds to wait for another node's migrations.",
        ],
    ),
    command("stop", "", "Stop a node.", &[PREFIX]),
    group("vault", "Look up secrets: get <reference>.", &["get"], &[CONF, PREFIX]),
    command("version", "", "Show the version.", &[" -a,--all                             Show all versions."]),
];

const UNIVERSAL: &str = " --v              verbose\n --vv             debug\n";

pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// What the program can do.
pub fn program(terminal: Terminal) -> String {
    let mut text = format!("Usage: {} COMMAND [OPTIONS]\n\nThe available commands are:\n", terminal.program());
    for command in &COMMANDS {
        text.push_str(&format!(" {:<12} {}\n", command.name, command.about));
    }
    text.push_str("\nOptions:\n");
    text.push_str(UNIVERSAL);
    text
}

impl Command {
    pub fn usage(&self, terminal: Terminal) -> String {
        let synopsis = if self.synopsis.is_empty() { String::new() } else { format!(" {}", self.synopsis) };
        let mut text = format!("Usage: {} {}{synopsis} [OPTIONS]\n\n{}\n\nOptions:\n", terminal.program(), self.name, self.about);
        for option in self.options {
            text.push_str(option);
            text.push('\n');
        }
        text.push_str(UNIVERSAL);
        text
    }
}
