//! Arguments of clap's commands, and their values.

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};

/// Returns an argument with a value.
///
/// An empty value is an error: most come from a variable of a script that is not set, and must not mean
/// "all" or "no limit".
pub fn parsed<T: Clone + Send + Sync + 'static>(
    name: &'static str,
    placeholder: &'static str,
    help: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Arg {
    let parser = move |text: &str| match text.trim() {
        "" => Err("is empty; write a value, or leave the flag out".to_owned()),
        _ => parse(text),
    };
    Arg::new(name)
        .long(name)
        .value_name(placeholder)
        .help(help)
        .value_parser(ValueParser::new(parser))
}

/// Returns the value of an argument; `None` also for one that the command does not have.
pub fn get<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.try_get_one(name).ok().flatten().cloned()
}

/// Returns all values of an argument; none for one that the command does not have.
pub fn all<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    let values = matches.try_get_many(name).ok().flatten();
    values.into_iter().flatten().cloned().collect()
}
