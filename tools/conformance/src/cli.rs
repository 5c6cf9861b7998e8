//! The command line: arguments, output and exit code.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::checks;
use crate::options::{HttpVersion, InteropVersion, Options};
use crate::profile::{PROFILES, Profile};
use crate::report::{self, Text};
use crate::requirement::{Capability, Protocol};
use crate::runner;

/// The result of the command, which determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All checks of a MUST passed: 0.
    Conformant,
    /// A check of a MUST failed: 1.
    NotConformant,
    /// The arguments are not valid: 2.
    Usage,
    /// The server cannot be reached: 3.
    Unreachable,
}

impl Status {
    /// Returns the exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Conformant => 0,
            Self::NotConformant => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }
}

const DETAILS: &str = "\
Checks a server of tus 1.0.0 or of the IETF draft Resumable Uploads for HTTP against the requirements of the \
specification, over HTTP alone. URL is the address at which uploads are created. The checks make uploads, and remove \
them afterwards where the server supports termination.

Exit codes: 0 if every MUST passed or differs by a documented choice of --profile, 1 if one failed, 2 for wrong arguments, 3 if the server cannot be reached.";

/// Returns the command `conformance`.
#[must_use]
pub fn command() -> Command {
    let text = |name: &'static str, placeholder: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(placeholder).help(help)
    };
    let path = |name: &'static str, help: &'static str| {
        text(name, "FILE", help).value_parser(value_parser!(PathBuf))
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    Command::new("conformance")
        .about("Check a server against the specification of its protocol")
        .long_about(DETAILS)
        .max_term_width(100)
        .args([
            Arg::new("url")
                .value_name("URL")
                .help("The address at which uploads are created, such as https://example.com/files/")
                .required_unless_present("list")
                .value_parser(url),
            text("protocol", "NAME", "tus, draft, all, or auto: the protocols that OPTIONS shows")
                .default_value("auto")
                .value_parser(["auto", "tus", "draft", "all"]),
            text(
                "interop-version",
                "VERSION",
                "The interop version of the IETF draft: a number, none, or the newest that the server accepts",
            )
            .default_value("newest")
            .value_parser(interop_version),
            text("profile", "NAME", "Documented choices that are no failures: those of landfall or tusd")
                .value_parser(PossibleValuesParser::new(PROFILES.iter().map(|profile| profile.name))),
            text("header", "FIELD", "A field of every request, such as 'Authorization: Bearer …'")
                .action(ArgAction::Append)
                .value_parser(header),
            text("metadata", "KEY=VALUE", "A pair that every upload has in its metadata")
                .action(ArgAction::Append)
                .value_parser(pair),
            text(
                "expect",
                "NAMES",
                "Extensions that must be there, or tus for all of them, or draft; missing ones fail",
            )
            .value_delimiter(',')
            .action(ArgAction::Append)
            .value_parser(expected),
            text("max-size", "BYTES", "The largest upload that the checks make [default: 16777216]")
                .value_parser(value_parser!(u64)),
            switch("http2", "Send all requests over HTTP/2; checks that need HTTP/1.1 are skipped"),
            switch("http3", "Send all requests over HTTP/3; checks that need HTTP/1.1 are skipped")
                .conflicts_with("http2")
                .hide(cfg!(not(feature = "http3"))),
            switch("chaos", "Add checks with random interruptions and concurrent requests"),
            switch("no-downloads", "Do not compare stored bytes by GET"),
            text("only", "PATTERN", "Run only checks whose names contain this; * for any characters")
                .action(ArgAction::Append),
            text("seed", "NUMBER", "The seed of random values [default: random]")
                .value_parser(value_parser!(u64)),
            text("concurrency", "NUMBER", "Checks that run at the same time [default: 4]")
                .value_parser(value_parser!(u16).range(1..=256)),
            text("timeout", "SECONDS", "The longest wait for a response [default: 10]")
                .value_parser(value_parser!(u64).range(1..)),
            text("check-timeout", "SECONDS", "The longest duration of a check [default: 60]")
                .value_parser(value_parser!(u64).range(1..)),
            text("run-timeout", "SECONDS", "The longest duration of the run [default: 1800]")
                .value_parser(value_parser!(u64).range(1..)),
            path("json", "Write a report as JSON"),
            path("junit", "Write a report as JUnit XML"),
            path("badge", "Write a badge as SVG"),
            switch("quiet", "Print failures and counts alone"),
            switch("list", "Print the checks with their levels and sections, and run none"),
        ])
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("not an http or https URL".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("has no colon: write 'Name: value'")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) || value.contains(char::is_control) {
        return Err("is not a header field".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn interop_version(text: &str) -> Result<InteropVersion, String> {
    match text {
        "newest" => Ok(InteropVersion::Newest),
        "none" => Ok(InteropVersion::Absent),
        number => match number.parse() {
            Ok(number @ 3..=99) => Ok(InteropVersion::Number(number)),
            _ => Err("is not newest, none, or a number from 3 on".to_owned()),
        },
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("has no =: write key=value")?;
    let is_valid = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    if key.is_empty() || !key.bytes().all(is_valid) {
        return Err("has a key that is not ASCII without spaces and commas".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Protocol(Protocol),
    Capability(Capability),
}

fn expected(text: &str) -> Result<Expected, String> {
    let named = |capability: &Capability| capability.name() == text;
    match text {
        "tus" => Ok(Expected::Protocol(Protocol::Tus)),
        "draft" => Ok(Expected::Protocol(Protocol::Draft)),
        "max-size" => Ok(Expected::Capability(Capability::MaxSize)),
        _ => {
            let capability = Capability::EXTENSIONS.into_iter().find(named);
            let capability = capability.ok_or_else(|| {
                let names = Capability::EXTENSIONS.map(Capability::name).join(", ");
                format!("is none of tus, draft, max-size, {names}")
            });
            capability.map(Expected::Capability)
        }
    }
}

fn options(matches: &ArgMatches, endpoint: Url) -> Options {
    let mut options = Options::new(endpoint);
    let seconds = |name| {
        matches
            .get_one::<u64>(name)
            .copied()
            .map(Duration::from_secs)
    };
    let values = |name| {
        matches
            .get_many::<(String, String)>(name)
            .into_iter()
            .flatten()
    };
    options.headers = values("header").cloned().collect();
    options.metadata = values("metadata").cloned().collect();
    let only = matches.get_many::<String>("only").into_iter().flatten();
    options.only = only.cloned().collect();
    if let Some(version) = matches.get_one("interop-version") {
        options.interop_version = *version;
    }
    options.profile = profile(matches);
    if matches.get_flag("http2") {
        options.http_version = HttpVersion::Http2;
    }
    #[cfg(feature = "http3")]
    if matches.get_flag("http3") {
        options.http_version = HttpVersion::Http3;
    }
    options.chaos = matches.get_flag("chaos");
    options.downloads = !matches.get_flag("no-downloads");
    options.seed = matches
        .get_one("seed")
        .copied()
        .unwrap_or_else(rand::random);
    if let Some(max_size) = matches.get_one("max-size") {
        options.max_size = *max_size;
    }
    if let Some(concurrency) = matches.get_one::<u16>("concurrency") {
        options.concurrency = usize::from(*concurrency);
    }
    options.timeout = seconds("timeout").unwrap_or(options.timeout);
    options.check_timeout = seconds("check-timeout").unwrap_or(options.check_timeout);
    options.run_timeout = seconds("run-timeout").unwrap_or(options.run_timeout);
    let protocol = matches.get_one::<String>("protocol").map(String::as_str);
    options.protocols = match protocol {
        Some("tus") => Some(BTreeSet::from([Protocol::Tus])),
        Some("draft") => Some(BTreeSet::from([Protocol::Draft])),
        Some("all") => Some(BTreeSet::from([Protocol::Tus, Protocol::Draft])),
        _ => None,
    };
    for expected in matches.get_many("expect").into_iter().flatten() {
        match expected {
            Expected::Capability(capability) => {
                options.expected.insert(*capability);
            }
            Expected::Protocol(protocol) => {
                options.expected_protocols.insert(*protocol);
                if *protocol == Protocol::Tus {
                    options.expected.extend(Capability::EXTENSIONS);
                }
            }
        }
    }
    options
}

/// Runs the command with the matches of [`command`]. Ctrl-C ends the run, and removes its uploads.
///
/// # Errors
/// The report cannot be written.
pub async fn run(matches: &ArgMatches, mut stdout: impl Write) -> io::Result<Status> {
    if matches.get_flag("list") {
        return list(&mut stdout, profile(matches)).map(|()| Status::Conformant);
    }
    let Some(endpoint) = matches.get_one::<Url>("url").cloned() else {
        return Ok(Status::Usage);
    };
    if cfg!(not(feature = "http3")) && matches.get_flag("http3") {
        let text = "HTTP/3 is not compiled in; rebuild with --features http3";
        writeln!(stdout, "{text}")?;
        return Ok(Status::Usage);
    }
    let stop = CancellationToken::new();
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
        std::future::pending::<()>().await;
    };
    let mut text = Text::new(&mut stdout, matches.get_flag("quiet"));
    let mut written = Ok(());
    let observe = |outcome: &runner::CheckOutcome| {
        if written.is_ok() {
            written = text.line(outcome);
        }
    };
    let report = tokio::select! {
        report = runner::run(options(matches, endpoint), &stop, observe) => report,
        () = interrupt => return Ok(Status::NotConformant),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            writeln!(stdout, "cannot check the server: {error}")?;
            return Ok(Status::Unreachable);
        }
    };
    written?;
    text.summary(&report)?;
    let files: [(&str, Format); 3] = [
        ("json", report::json),
        ("junit", report::junit),
        ("badge", report::badge),
    ];
    for (name, format) in files {
        if let Some(path) = matches.get_one::<PathBuf>(name) {
            tokio::fs::write(path, format(&report)).await?;
        }
    }
    Ok(match report.is_conformant() {
        true => Status::Conformant,
        false => Status::NotConformant,
    })
}

type Format = fn(&runner::Report) -> String;

fn profile(matches: &ArgMatches) -> Option<&'static Profile> {
    let name = matches.get_one::<String>("profile");
    name.and_then(|name| Profile::by_name(name))
}

fn list(output: &mut impl Write, profile: Option<&Profile>) -> io::Result<()> {
    for group in checks::groups() {
        for check in group.checks {
            let (level, id, section) = (check.level, check.id, check.section);
            let title = group.protocol.title();
            write!(output, "{level:6} {id} ({title}, {section})")?;
            match profile.and_then(|profile| profile.reason(id)) {
                Some(reason) => writeln!(output, "; documented choice: {reason}")?,
                None => writeln!(output)?,
            }
        }
    }
    Ok(())
}
