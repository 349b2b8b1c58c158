//! `vault get`: what a reference stands for.

use super::terminal::Terminal;
use super::{Arguments, Failure, settings};
use crate::conf::vault::{Reference, is_reference};

pub fn run(terminal: Terminal, arguments: &Arguments) -> Result<(), Failure> {
    let Some(reference) = arguments.positional.get(1) else {
        return Err(Failure("the 'get' command needs a <reference> argument".to_owned()));
    };
    let settings = settings(terminal, arguments)?;
    let reference = if is_reference(reference) { reference.clone() } else { format!("{{vault://{reference}}}") };
    let prefix = settings.loaded.text("vault_env_prefix").unwrap_or_default();
    let secret = Reference::parse(&reference)?.resolve(prefix, |name| std::env::var(name).ok())?;
    println!("{secret}");
    Ok(())
}
