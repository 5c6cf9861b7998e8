//! The command line, parsed by clap.
//!
//! clap's commands are built from the table of settings.

use std::collections::HashSet;
use std::ffi::OsString;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, Id, value_parser};
use clap_complete::Shell;
use landfall_console::{all, get, parsed};
use landfall_state::outbox::{EventSelection, EventState, Query};

use super::args::{key_name, link_name, named, origin, setting_arg, switch, text, value_arg};
use super::help::{self, Help};
use super::layers::{Layers, Source};
use super::normalize::{normalize, split_flag};
use super::problem::Problem;
use super::sections::table::{Property, Subcommand};
use super::sections::{SECTIONS, settings};
use super::usage::usage_problem;
use super::{EventsCommand, GrantLimits, KeysCommand, LinkCommand, NewKey, NewLink, Options};
use super::{address, grants, report, unsupported, value, version};

#[derive(Debug)]
pub(super) enum Cli {
    Print(String),
    Run(Subcommand, Box<Options>),
}

const EXAMPLES: &str = "\
Examples:
  landfall          Serve ./data at http://localhost:8080/files/
  landfall --port 8070 --upload-dir /srv/uploads --max-size 20GiB";

const SET_CORS_EXAMPLE: &str =
    "Example:\n  landfall s3 set-cors --s3-bucket uploads --origin https://example.com";

const DEFAULT_LINK_NAME: &str = "Upload link";
/// People forget links that they have sent.
const DEFAULT_LINK_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The settings that form the URL of a link.
const LINK_URL: [&str; 6] = [
    "host",
    "port",
    "tls-certificate",
    "acme-domain",
    "base-path",
    "public-url",
];

const SYNTAX: &str = "\
Flags may begin with one dash or two; the value follows after a space or an = sign. Every setting can \
also be given as a variable (--max-size is LANDFALL_MAX_SIZE) or in a TOML file (max-size = \"2GiB\"). \
Flags override variables, and variables override the file (landfall --config /etc/landfall.toml).
SIZE is in bytes, or has a unit: KiB, MiB, GiB, TiB, KB, MB, GB, TB.
TIME has a unit: 300ms, 10s, 1h30m, 7d.";

const SEE_LONG_HELP: &str = "Run the command with --help for all flags.";

pub(super) fn parse(
    args: impl IntoIterator<Item = OsString>,
    layers: &mut Layers,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Result<Cli, Problem> {
    let invalid = |arg: OsString| Problem::new(arg.to_string_lossy(), "is not valid UTF-8");
    let args = args.into_iter();
    let args = args.map(|arg| arg.into_string().map_err(invalid));
    let args = args.collect::<Result<Vec<_>, _>>()?;
    let is_short = args.iter().any(|arg| arg == "-h") || args == ["help"];
    let mut command = command(is_short);
    let given = args;
    let (mut args, dropped) = normalize(&command, given.clone(), names_tusd(&given));
    if !dropped.is_empty() {
        let dropped = dropped.join(" ");
        warnings.push(format!(
            "ignored as by tusd, because a word ends the flags: {dropped:?}"
        ));
    }
    if let Some((_, topic)) = args.split_first().filter(|(first, _)| *first == "help") {
        match help::find(&command, topic)? {
            Help::Text(text) => return Ok(Cli::Print(text)),
            Help::Command(path) => args = path,
        }
        args.push(if is_short { "-h" } else { "--help" }.to_owned());
    }
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Cli::Print(error.render().to_string()));
        }
        Err(error) => return Err(usage_problem(&error, &command, &given)),
    };

    let (path, matches) = selected(&matches);
    let subcommand = match path.as_slice() {
        ["version"] => return Ok(Cli::Print(version())),
        ["man"] => return Ok(Cli::Print(man_page())),
        ["completions"] => {
            let shell = matches.get_one("shell").copied().unwrap_or(Shell::Bash);
            return Ok(Cli::Print(completions(shell)));
        }
        path if crate::tools::has(path) => {
            let name = path.join(" ");
            return Err(Problem::whole(format!(
                "write {name} first, as in landfall {name} --help"
            )));
        }
        ["sweep"] => Subcommand::Sweep,
        ["doctor", "files"] => Subcommand::DoctorFiles,
        ["doctor", "s3"] => Subcommand::DoctorS3,
        ["doctor", "gcs"] => Subcommand::DoctorGcs,
        ["doctor", "azure"] => Subcommand::DoctorAzure,
        ["doctor", "tls"] => Subcommand::DoctorTls,
        ["s3", ..] => Subcommand::SetCors,
        ["events", ..] => Subcommand::Events,
        ["keys", ..] => Subcommand::Keys,
        ["link", ..] => Subcommand::Link,
        ["migrate"] => Subcommand::Migrate,
        ["health"] => Subcommand::Health,
        ["config", "sample"] => return Ok(Cli::Print(report::sample())),
        ["config", "show"] => Subcommand::ConfigShow,
        ["config", ..] => Subcommand::ConfigCheck,
        _ => Subcommand::Serve,
    };
    if get(matches, "version").unwrap_or(false) {
        return Ok(Cli::Print(version()));
    }
    store_settings(matches, layers, problems);

    let action = path.last().copied().unwrap_or_default();
    let mut seen = HashSet::new();
    let mut origins: Vec<String> = all(matches, "origin");
    origins.retain(|origin| seen.insert(origin.clone()));
    Ok(Cli::Run(
        subcommand,
        Box::new(Options {
            config: get(matches, "config"),
            dry_run: get(matches, "dry-run").unwrap_or(false),
            json: get(matches, "json").unwrap_or(false),
            ready: get(matches, "ready").unwrap_or(false),
            offline: get(matches, "offline").unwrap_or(false),
            changed: match path.as_slice() {
                ["config", "check"] => !get(matches, "all").unwrap_or(false),
                _ => get(matches, "changed").unwrap_or(false),
            },
            origins,
            events: events_command(action, matches),
            keys: keys_command(action, matches),
            link: link_command(action, matches),
        }),
    ))
}

/// Returns whether the arguments have `--compat tusd`, which also decides how they are read.
fn names_tusd(args: &[String]) -> bool {
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let value = match split_flag(arg) {
            Some(("compat", Some(value))) => Some(value),
            Some(("compat", None)) => args.peek().map(|next| next.as_str()),
            _ => None,
        };
        if value == Some("tusd") {
            return true;
        }
    }
    false
}

fn selected(matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let (mut path, mut inner) = (Vec::new(), matches);
    while let Some((name, matches)) = inner.subcommand() {
        path.push(name);
        inner = matches;
    }
    (path, inner)
}

fn store_settings(matches: &ArgMatches, layers: &mut Layers, problems: &mut Vec<Problem>) {
    let names: HashSet<_> = matches.ids().map(Id::as_str).collect();
    // The --max-size of keys add is no text.
    let given = |name: &str| {
        names
            .get(name)
            .and_then(|name| get::<String>(matches, name))
    };
    for setting in settings() {
        for alias in setting.aliases {
            match given(alias.name).map(|text| (alias.translate)(&text)) {
                Some(Ok(text)) => layers.add(setting, text, Source::Flag(alias.name)),
                Some(Err(reason)) => {
                    problems.push(Problem::new(format!("--{}", alias.name), reason));
                }
                None => {}
            }
        }
        if let Some(text) = given(setting.name) {
            layers.add(setting, text, Source::Flag(setting.name));
        }
    }
    let is_compat = layers.is_compat();
    for flag in unsupported::all() {
        let is_harmless = |text: &str| flag.is_default(text) || is_compat && text.is_empty();
        if given(flag.name).is_some_and(|text| !is_harmless(&text)) {
            problems.push(Problem::new(format!("--{}", flag.name), flag.reason));
        }
    }
}

fn events_command(action: &str, matches: &ArgMatches) -> EventsCommand {
    let is_set = |name| get(matches, name).unwrap_or(false);
    let transport = get(matches, "transport");
    let ids = || EventSelection::Ids(all(matches, "id"));
    match action {
        "retry" if is_set("all") => EventsCommand::Retry(EventSelection::Failed(transport)),
        "retry" => EventsCommand::Retry(ids()),
        "delete" if is_set("all") => EventsCommand::Delete(EventSelection::Dead(transport)),
        "delete" => EventsCommand::Delete(ids()),
        _ => EventsCommand::List {
            query: Query {
                states: match (is_set("all"), is_set("pending")) {
                    (true, _) => vec![EventState::Dead, EventState::Pending, EventState::Prepared],
                    (_, true) => vec![EventState::Pending],
                    _ => vec![EventState::Dead],
                },
                retrying: !is_set("all") && !is_set("pending"),
                route: transport,
                upload: get(matches, "upload"),
                limit: get(matches, "limit").unwrap_or(1000),
                ..Query::default()
            },
            json: is_set("json"),
        },
    }
}

fn keys_command(action: &str, matches: &ArgMatches) -> KeysCommand {
    let name = get(matches, "name").unwrap_or_default();
    match action {
        "add" => KeysCommand::Add(NewKey {
            name,
            subject: get(matches, "subject"),
            is_admin: get(matches, "admin").unwrap_or(false),
            limits: GrantLimits {
                max_size: get(matches, "max-size").flatten(),
                allowed_types: get(matches, "allowed-types").unwrap_or_default(),
                max_active: get(matches, "max-active").flatten(),
                rate_limit: get(matches, "rate-limit").flatten(),
                quota: get(matches, "quota").flatten(),
                require_size: false,
            },
            expires: get(matches, "expires").flatten(),
        }),
        "revoke" => KeysCommand::Revoke(name),
        _ => KeysCommand::List,
    }
}

fn link_command(action: &str, matches: &ArgMatches) -> LinkCommand {
    match action {
        "link" => LinkCommand::Add(NewLink {
            name: get(matches, "name").unwrap_or_else(|| DEFAULT_LINK_NAME.to_owned()),
            max_size: get(matches, "max-size").flatten(),
            max_files: get(matches, "files").flatten(),
            expires: get(matches, "expires").unwrap_or(Some(DEFAULT_LINK_LIFETIME)),
            url: get(matches, "url"),
        }),
        "revoke" => LinkCommand::Revoke(get(matches, "name").unwrap_or_default()),
        _ => LinkCommand::List,
    }
}

fn man_page() -> String {
    let mut page = Vec::new();
    // Writing to a vector does not fail.
    let _ = clap_mangen::Man::new(command(false)).render(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = command(false);
    command.build();
    clap_complete::generate(shell, &mut visible(&command), "landfall", &mut script);
    let script = String::from_utf8_lossy(&script);
    // Each flag of bash has a branch for its value, and all of them are the same.
    let value = r#"                    COMPREPLY=($(compgen -f "${cur}"))"#;
    let branch = format!(
        ")\n{value}\n                    return 0\n                    ;;\n                --"
    );
    script.replace(&branch, "|--")
}

/// clap_complete offers hidden flags too, and a file as the value of a switch.
fn visible(command: &Command) -> Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let args = args.cloned().map(|arg| match arg.is_require_equals_set() {
        true => Arg::new(arg.get_id().clone())
            .long(arg.get_long().unwrap_or_default().to_owned())
            .help(arg.get_help().cloned().unwrap_or_default())
            .action(ArgAction::SetTrue),
        false => arg,
    });
    let subcommands = command.get_subcommands().filter(|one| !one.is_hide_set());
    Command::new(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args(args)
        .subcommands(subcommands.map(visible))
}

/// `short` lists the common flags under one heading, for `-h`.
pub(super) fn command(short: bool) -> Command {
    let root = Command::new("landfall")
        .about("Landfall is a resumable file upload server (tus 1.0.0).")
        .bin_name("landfall")
        .no_binary_name(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .max_term_width(100)
        .after_help(format!(
            "{EXAMPLES}\nlandfall --help prints all flags; landfall help TOPIC those of a command or topic."
        ))
        .after_long_help(format!("{SYNTAX}\n\n{EXAMPLES}\n  landfall --s3-bucket uploads --s3-region eu-central-1"))
        .subcommands([
            Command::new("serve")
                .about("Serve uploads (the default command)")
                .after_long_help(EXAMPLES)
                .defer(|command| with_settings(command, Subcommand::Serve, false)),
            Command::new("sweep")
                .about("Delete expired uploads, once")
                .long_about(
                    "Deletes expired uploads once, and exits. A server may run at the same time.",
                )
                .arg(switch("dry-run", "List what would be deleted and why, and delete nothing"))
                .after_long_help(
                    "Example:\n  landfall sweep --dry-run --upload-dir /srv/uploads --expire-unfinished 7d",
                )
                .defer(|command| with_settings(command, Subcommand::Sweep, false)),
            doctor(),
            parent("s3", "Configure a bucket")
                .after_long_help(SET_CORS_EXAMPLE)
                .subcommand(set_cors()),
            events(),
            keys(),
            link(),
            Command::new("migrate")
                .about("Migrate the database to this version")
                .long_about(
                    "Brings the tables of the database to the version of this program, as the server \
                     does when it starts. Other commands change no tables. Servers of the previous \
                     version may keep running, unless the release notes say otherwise. Use the \
                     server's settings, so that the command finds the same database.",
                )
                .after_long_help("Example:\n  landfall migrate --config /etc/landfall.toml")
                .defer(|command| with_settings(command, Subcommand::Migrate, false)),
            Command::new("health")
                .about("Check that the server runs")
                .long_about(
                    "Requests /healthz of the server with these settings on this machine. Exits with 0 if \
                     it responds with 200 within five seconds, otherwise with 1. For health checks of \
                     containers.",
                )
                .arg(switch("ready", "Request /readyz instead: is the server ready for uploads?"))
                .after_long_help("Example:\n  landfall health --ready --port 8070")
                .defer(|command| with_settings(command, Subcommand::Health, false)),
            parent("config", "Check or print the configuration")
                .after_long_help("Example:\n  landfall config check --config /etc/landfall.toml")
                .subcommands([
                    Command::new("check")
                        .about("Check all settings, and print those that are not at their defaults")
                        .long_about(
                            "Checks all settings as the server does when it starts: their values, and the \
                             files, directories, hosts and keys that they name. Prints the settings that \
                             are not at their defaults with their sources, the directories with their \
                             owners, and whether the configuration is valid.",
                        )
                        .args([
                            switch("offline", "Check values only, not this machine or others"),
                            switch("all", "Print all settings"),
                        ])
                        .after_long_help("Example:\n  landfall config check --config /etc/landfall.toml")
                        .defer(|command| with_settings(command, Subcommand::ConfigCheck, false)),
                    Command::new("show")
                        .about("Print all settings with their sources")
                        .args([
                            switch("changed", "Print only settings that are not at their defaults"),
                            switch("json", "Print a JSON object for each setting, in an array"),
                        ])
                        .after_long_help("Example:\n  landfall config show --changed --config /etc/landfall.toml")
                        .defer(|command| with_settings(command, Subcommand::ConfigShow, false)),
                    Command::new("sample")
                        .about("Print a configuration file with all settings as comments")
                        .after_long_help("Example:\n  landfall config sample > landfall.toml")
                        .arg(help_flag()),
                ]),
            Command::new("version")
                .about("Print the version")
                .after_long_help("Example:\n  landfall version")
                .arg(help_flag())
                .hide(short),
            Command::new("completions")
                .hide(short)
                .about("Print a shell completion script")
                .after_long_help("Example:\n  landfall completions bash > /etc/bash_completion.d/landfall")
                .arg(help_flag())
                .arg(
                    Arg::new("shell")
                        .value_name("SHELL")
                        .help("Shell, such as bash, zsh or fish")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
            Command::new("help")
                .about("Print help on a command, a flag or a topic, such as hooks or s3")
                .after_long_help("Examples:\n  landfall help keys add\n  landfall help max-size")
                .arg(help_flag())
                .arg(Arg::new("topic").value_name("TOPIC").num_args(0..).help(
                    "Command, flag, or title of a group of flags, or a word of it",
                )),
            Command::new("man")
                .about("Print the man page")
                .after_long_help("Example:\n  landfall man > /usr/local/share/man/man1/landfall.1")
                .arg(help_flag())
                .hide(true),
        ]);
    let root = root.subcommands(tools_below(&[]));
    with_settings(root, Subcommand::Serve, short)
}

/// The commands of `landfall-cli` below this path.
fn tools_below(parents: &'static [&'static str]) -> impl Iterator<Item = Command> {
    let commands = crate::tools::COMMANDS.into_iter();
    commands.filter_map(move |(path, about)| match path.split_last() {
        Some((name, above)) if above == parents => Some(Command::new(*name).about(about)),
        _ => None,
    })
}

fn parent(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        // The flag of the program is not inherited.
        .arg(help_flag())
}

fn help_flag() -> Arg {
    Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help)
        .help("Print help")
}

fn doctor() -> Command {
    parent("doctor", "Diagnose the storage, proxies and certificates")
        .after_long_help("Example:\n  landfall doctor files --upload-dir /srv/uploads")
        .subcommands(tools_below(&["doctor"]))
        .subcommands([
            Command::new("files")
                .about("List damaged uploads in a directory")
                .long_about(
                    "Lists damaged uploads in the upload directory, and files that are never removed \
                     because their owner is unknown. Changes nothing. A server may run at the same \
                     time.",
                )
                .after_long_help("Example:\n  landfall doctor files --upload-dir /srv/uploads")
                .defer(|command| with_settings(command, Subcommand::DoctorFiles, false)),
            Command::new("s3")
                .about("Check a bucket and the uploads in it")
                .long_about(
                    "Checks that the bucket can be reached, that the credentials have the permissions \
                     Landfall needs, and how the service differs from Amazon S3. Writes a few small \
                     objects below the prefix and removes them. Lists damaged uploads. Exits with code 1 \
                     if a requirement is missing.",
                )
                .args([
                    switch("json", "Print the findings as JSON"),
                    origin("Check that pages of this origin may access the bucket, such as https://example.com"),
                ])
                .after_long_help(
                    "Example:\n  landfall doctor s3 --s3-bucket uploads --s3-endpoint http://localhost:3900",
                )
                .defer(|command| with_settings(command, Subcommand::DoctorS3, false)),
            Command::new("gcs")
                .about("Check a bucket of Google Cloud Storage and the uploads in it")
                .long_about(
                    "Checks that the bucket can be reached, that the credentials have the permissions \
                     Landfall needs, and that the settings of the bucket suit uploads. Writes a few small \
                     objects below the prefix and removes them. Lists damaged uploads. Exits with code 1 \
                     if a requirement is missing.",
                )
                .arg(switch("json", "Print the findings as JSON"))
                .after_long_help("Example:\n  landfall doctor gcs --gcs-bucket uploads")
                .defer(|command| with_settings(command, Subcommand::DoctorGcs, false)),
            Command::new("azure")
                .about("Check a container of Azure Blob Storage and the uploads in it")
                .long_about(
                    "Checks that the container can be reached, that the credentials have the rights \
                     Landfall needs, and that its properties suit uploads. Writes a few small blobs below \
                     the prefix and removes them; creates no container. Lists damaged uploads. Exits with \
                     code 1 if a requirement is missing.",
                )
                .arg(switch("json", "Print the findings as JSON"))
                .after_long_help("Example:\n  landfall doctor azure --azure-storage uploads")
                .defer(|command| with_settings(command, Subcommand::DoctorAzure, false)),
            Command::new("tls")
                .about("Check the certificates of a server")
                .long_about(
                    "Reads the certificates, keys and authorities of clients, and reports those that \
                     cannot be used, have expired, or expire within 14 days. Exits with code 1 if \
                     clients cannot connect.",
                )
                .arg(switch("json", "Print the findings as JSON"))
                .after_long_help("Example:\n  landfall doctor tls --config /etc/landfall.toml")
                .defer(|command| with_settings(command, Subcommand::DoctorTls, false)),
        ])
}

fn set_cors() -> Command {
    Command::new("set-cors")
        .about("Let web pages upload to the bucket (CORS)")
        .long_about(
            "Sets the CORS rule of the bucket that lets pages of these origins upload to it directly. \
             The rule has the id landfall-direct and replaces an earlier one; other rules are kept. \
             Prints the rules before and after.",
        )
        .args([
            origin("Origin of the pages, such as https://example.com; repeatable").required(true),
            switch("dry-run", "Print the rules that would be set, and set none"),
        ])
        .after_long_help(SET_CORS_EXAMPLE)
        .defer(|command| with_settings(command, Subcommand::SetCors, false))
}

fn events() -> Command {
    let change = |name, about, every, example| {
        let selection = ArgGroup::new("selection").args(["id", "all"]);
        let transport = "With --all: only those for this transport, such as http";
        Command::new(name)
            .about(about)
            .args([
                Arg::new("id")
                    .value_name("ID")
                    .num_args(0..)
                    .help("Ids of events, as printed by landfall events list")
                    .value_parser(NonEmptyStringValueParser::new()),
                Arg::new("all")
                    .long("all")
                    .action(ArgAction::SetTrue)
                    .help(every),
                text("transport", "NAME", transport).conflicts_with("id"),
            ])
            .group(selection.required(true))
            .after_long_help(example)
            .defer(|command| with_settings(command, Subcommand::Events, false))
    };
    parent("events", "List, retry or delete undelivered events (dead letters)")
        .after_long_help(
            "A server may run at the same time. Use the server's settings, so that the command finds the \
             same database.\n\nExamples:\n  landfall events list --config /etc/landfall.toml\n  landfall \
             events retry --all --state-dir /var/lib/landfall",
        )
        .subcommands([
            Command::new("list")
                .about("List dead letters, retried and late events, or all pending ones")
                .args([
                    switch("all", "List pending events and dead letters").conflicts_with("pending"),
                    switch("pending", "List pending events only, whether they have failed or not"),
                    text("transport", "NAME", "Only events for this transport, such as http"),
                    text("upload", "ID", "Only events of this upload"),
                    parsed("limit", "COUNT", "List at most this many [default: 1000]", value::count::<usize>),
                    switch("json", "Print a JSON object per line"),
                ])
                .after_long_help("Example:\n  landfall events list --all --config /etc/landfall.toml")
                .defer(|command| with_settings(command, Subcommand::Events, false)),
            change(
                "retry",
                "Deliver events now that have failed",
                "All dead letters, and pending events that have failed",
                "Example:\n  landfall events retry --all --config /etc/landfall.toml",
            ),
            change(
                "delete",
                "Delete events without delivering them",
                "All dead letters",
                "Example:\n  landfall events delete --all --transport http --config /etc/landfall.toml",
            ),
        ])
}

fn keys() -> Command {
    parent("keys", "Add, list or revoke API keys")
        .long_about(
            "Adds, lists and revokes the API keys that applications use to request grants (--grants). A \
             key is printed once, when it is added: only its hash is stored. A running server applies \
             changes within seconds. Use the server's settings, so that the command finds the same \
             database.",
        )
        .after_long_help(
            "Examples:\n  landfall keys add website --config /etc/landfall.toml\n  landfall keys add alice \
             --max-size 2GiB --rate-limit 100/1h --expires 90d",
        )
        .subcommands([
            Command::new("add")
                .about("Create an API key and print it")
                .long_about(
                    "Creates an API key and prints it, once. Its limits apply within those of \
                     --grants-max-size, --grants-allowed-types and so on.",
                )
                .args([
                    named("Name of the key", key_name),
                    parsed("subject", "NAME", "Subject that uses the key and sees its uploads [default: the key's name]", key_name),
                    switch("admin", "Let the key see and cancel all uploads"),
                    parsed("max-size", "SIZE", "Maximum size of an upload", value::size_or_none),
                    parsed("allowed-types", "TYPES", "Allowed media types, such as image/*", grants::types),
                    parsed("max-active", "COUNT", "Maximum granted and running uploads", value::number_or_none::<u32>),
                    parsed("rate-limit", "COUNT/TIME", "Maximum grants per time, such as 100/1h", grants::rate),
                    parsed("quota", "SIZE", "Maximum bytes in all", value::size_or_none),
                    parsed("expires", "TIME", "Key lifetime, such as 90d [default: never expires]", value::duration_or_none),
                ])
                .after_long_help(
                    "Example:\n  landfall keys add website --max-size 2GiB --rate-limit 100/1h --expires 90d",
                )
                .defer(|command| with_settings(command, Subcommand::Keys, false)),
            Command::new("list")
                .about("List API keys")
                .arg(switch("json", "Print a JSON object per line"))
                .after_long_help("Example:\n  landfall keys list --config /etc/landfall.toml")
                .defer(|command| with_settings(command, Subcommand::Keys, false)),
            Command::new("revoke")
                .about("Revoke API keys by name or number")
                .arg(named("Name or number of the key", key_name))
                .after_long_help("Example:\n  landfall keys revoke website --config /etc/landfall.toml")
                .defer(|command| with_settings(command, Subcommand::Keys, false)),
        ])
}

fn link() -> Command {
    let with_link = |command| with_settings(command, Subcommand::Link, false);
    Command::new("link")
        .about("Create a link that lets anyone upload files, or list or revoke links")
        .long_about(
            "Creates a link to the upload page and prints it, once: only its hash is stored. Anyone who \
             has the link can upload files within its limits until it expires, also to a server with \
             --require-grant. The link lists, reads and deletes no files. The server needs \
             --require-grant or --grants. Use the server's settings, so that the command finds the same \
             database.",
        )
        .disable_help_subcommand(true)
        .args([
            parsed("name", "NAME", "Title that people see on the page [default: Upload link]", link_name),
            parsed("max-size", "SIZE", "Maximum size of each file [default: that of the server]", value::size_or_none),
            parsed("files", "COUNT", "Maximum number of files [default: any number]", value::number_or_none::<u64>),
            parsed("expires", "TIME", "Lifetime of the link, such as 7d; 0 never expires [default: 7d]", value::duration_or_none),
            parsed("url", "URL", "URL of the upload page, such as https://example.com/ [default: that of the settings]", address::page_url),
        ])
        .subcommands([
            Command::new("list")
                .about("List links, with the number of their files")
                .arg(switch("json", "Print a JSON object per line"))
                .after_long_help("Example:\n  landfall link list --config /etc/landfall.toml")
                .defer(with_link),
            Command::new("revoke")
                .about("Revoke links by name or number; uploads that have begun continue")
                .arg(named("Name or number of the link", link_name))
                .after_long_help("Example:\n  landfall link revoke 'Photos for Ann'")
                .defer(with_link),
        ])
        .after_long_help(
            "Examples:\n  landfall link --name 'Photos for Ann' --max-size 5GiB --expires 7d\n  landfall link \
             --files 1 --config /etc/landfall.toml",
        )
        .defer(with_link)
}

/// Settings of sections that the command does not use are accepted, so that it can be given the server's
/// flags, but hidden.
fn with_settings(mut command: Command, subcommand: Subcommand, short: bool) -> Command {
    let is_root = command.get_name() == "landfall";
    let is_link = command.get_name() == "link";
    if command.get_after_help().is_none() {
        command = command.after_help(SEE_LONG_HELP);
    }
    let config = "Read settings from this TOML file, or that of LANDFALL_CONFIG";
    // The --max-size of keys add limits the key, not the server.
    let own: HashSet<_> = command
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .collect();
    let help = help_flag();
    command = command.disable_help_flag(true).args([
        text("config", "FILE", config).help_heading(short.then_some("Common flags")),
        switch("version", "Print the version")
            .hide(!is_root)
            .hide_short_help(short),
        help.help("Print the common flags (-h) or all (--help)")
            .hide_short_help(short),
    ]);
    for section in SECTIONS {
        let is_used = section.subcommands.contains(&subcommand);
        for setting in section.settings() {
            for alias in setting.aliases {
                command = command.arg(value_arg(alias.name, alias.kind).hide(true));
            }
            if own.contains(setting.name) {
                continue;
            }
            let heading = if short { "Common flags" } else { section.title };
            let is_shown = is_used || is_link && LINK_URL.contains(&setting.name);
            let arg = setting_arg(setting).help_heading(heading).hide(!is_shown);
            command = command.arg(arg.hide_short_help(!setting.has(Property::Common)));
        }
    }
    command.args(unsupported::all().map(|flag| value_arg(flag.name, flag.kind()).hide(true)))
}
