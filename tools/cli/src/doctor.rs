//! `doctor proxy`: the checks of proxies of `landfall-conformance`, printed as they end, or as JSON.

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use landfall_client::{HeaderName, HeaderValue, Url};
use landfall_conformance::proxy::{self, Finding};

use crate::{
    arguments::{all, get, is_set, parsed, switch, value},
    exit::Failure,
    interrupt::Interrupt,
    print,
    text::print_error,
};

const DETAILS: &str = "\
Uploads to a public URL as a client does, and checks that all proxies on the path pass uploads: methods and header \
fields, Location, large bodies that are not buffered, interim responses. Removes its uploads. Names the directives of \
nginx, HAProxy, Caddy and Traefik to change. Exits with code 1 if a requirement is missing.";

const EXAMPLES: &str = "\
Examples:
  PROGRAM doctor proxy https://example.com/files/
  PROGRAM doctor proxy https://example.com/files/ --header 'Authorization: Bearer abc' --slow 5m";

/// Work that is done earlier shows no progress.
const PROGRESS_DELAY: Duration = Duration::from_millis(500);
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Returns the command.
pub(crate) fn command(program: &str) -> Command {
    let header = "Field of all requests, such as 'Authorization: Bearer …'; repeatable";
    let slow = "Also send bodies that pause, or last, this long, such as 5m";
    let wait = "Longest wait for a connection or a response [default: 30s]";
    let size = "Size of the largest request body [default: 64MiB]";
    let proxy = Command::new("proxy")
        .about("Check the proxies in front of a server")
        .long_about(DETAILS)
        .max_term_width(100)
        .args([
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .help("URL to which clients send uploads, such as https://example.com/files/")
                .value_parser(value::public_url),
            parsed("header", "FIELD", header, value::header).action(ArgAction::Append),
            switch("json", "Print the findings as JSON"),
            parsed("response-timeout", "TIME", wait, value::duration),
            parsed("size", "SIZE", size, value::size),
            parsed("slow", "TIME", slow, value::duration),
        ])
        .after_long_help(EXAMPLES.replace("PROGRAM", program));
    Command::new("doctor")
        .about("Check the proxies in front of a server")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(proxy)
}

/// Runs the checks; the exit code is 1 if uploads cannot work.
pub(crate) async fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some(("proxy", matches)) = matches.subcommand() else {
        return Err(Failure::usage("there is only doctor proxy"));
    };
    let Some(endpoint) = get::<Url>(matches, "url") else {
        return Err(Failure::usage("a URL is missing"));
    };
    let interrupt = Interrupt::install()?;
    let headers: Vec<(HeaderName, HeaderValue)> = all(matches, "header");
    let headers = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), value.into_owned())
    });
    let options = proxy::Options {
        headers: headers.collect(),
        size: get(matches, "size").unwrap_or(64 << 20),
        slow: get(matches, "slow"),
        timeout: get(matches, "response-timeout").unwrap_or(Duration::from_secs(30)),
        endpoint: endpoint.clone(),
    };
    let is_json = is_set(matches, "json");
    let bar = progress_bar();
    let interrupted = async {
        interrupt.wait().await;
        bar.suspend(|| print_error("interrupted; cleaning up"));
    };
    let mut observe = |finding: &Finding| {
        if !is_json {
            // A closed pipe, such as that of `head`, must not leave uploads behind.
            bar.suspend(|| _ = print(&format!("{finding}\n")));
        }
    };
    let report = tokio::select! {
        report = proxy::run(options, interrupted, &mut observe) => report,
        never = show(&bar) => never,
    };
    bar.finish_and_clear();
    print(&match is_json {
        true => format!("{}\n", report.json(endpoint.as_str())),
        false => format!("{}\n", report.verdict()),
    });
    Ok(ExitCode::from(u8::from(!report.is_ok())))
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message("checking the proxy");
    bar
}

async fn show<T>(bar: &ProgressBar) -> T {
    tokio::time::sleep(PROGRESS_DELAY).await;
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.tick();
    bar.enable_steady_tick(DRAW_INTERVAL);
    std::future::pending().await
}
