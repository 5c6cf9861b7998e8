//! `doctor proxy`: the checks of proxies of `landfall-conformance`, printed as they end, or as JSON.

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use landfall_client::{HeaderName, HeaderValue};
use landfall_conformance::proxy;
use landfall_console::Report;

use crate::{
    arguments::{all, get, is_set, parsed, switch, value},
    exit::Failure,
    interrupt::Interrupt,
    text::print_error,
};

const DETAILS: &str = "\
Uploads to a public URL as a client does, and checks that all proxies on the path pass uploads: methods and header \
fields, Location, large bodies that are not buffered, interim responses. Finishes no upload and removes all. Names the directives of \
nginx, HAProxy, Caddy and Traefik to change. Exits with code 1 if a requirement is missing.";

const EXAMPLES: &str = "\
Examples:
  PROGRAM doctor proxy https://example.com/files/
  PROGRAM doctor proxy https://example.com/files/ --header 'Authorization: Bearer abc' --slow 5m";

/// Returns the command.
pub(crate) fn command(program: &str) -> Command {
    let header = "Field of all requests, such as 'Authorization: Bearer …'; repeatable";
    let slow = "Also send bodies that pause, or last, this long, such as 5m";
    let wait = "Longest wait for a connection or a response [default: 30s]";
    let upstream =
        "URL of the server without the proxies, to see whether they drop interim responses";
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
            parsed("upstream", "URL", upstream, value::public_url),
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
    let proxy = matches.subcommand_matches("proxy");
    let Some((matches, options)) = proxy.and_then(|proxy| Some((proxy, options(proxy)?))) else {
        return Err(Failure::usage("a URL is missing"));
    };
    let endpoint = options.endpoint.clone();
    let interrupt = Interrupt::install()?;
    let mut report = Report::new("checking the proxy", is_set(matches, "json"));
    let progress = report.progress.clone();
    let interrupted = async {
        interrupt.wait().await;
        progress.suspend(|| print_error("interrupted; cleaning up"));
    };
    let mut observe = |finding| report.add(finding);
    let checks = proxy::run(options, interrupted, &mut observe);
    progress.show_during(checks).await;
    Ok(report.finish(serde_json::json!({ "url": endpoint.as_str() })))
}

/// `None` without a URL.
fn options(matches: &ArgMatches) -> Option<proxy::Options> {
    let headers: Vec<(HeaderName, HeaderValue)> = all(matches, "header");
    let headers = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), value.into_owned())
    });
    Some(proxy::Options {
        endpoint: get(matches, "url")?,
        headers: headers.collect(),
        size: get(matches, "size").unwrap_or(64 << 20),
        slow: get(matches, "slow"),
        timeout: get(matches, "response-timeout").unwrap_or(Duration::from_secs(30)),
        upstream: get(matches, "upstream"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<proxy::Options, String> {
        let arguments = ["doctor", "proxy"].iter().chain(arguments);
        let matches = command("landfall").try_get_matches_from(arguments);
        let matches = matches.map_err(|error| error.to_string())?;
        let (_, matches) = matches.subcommand().unwrap();
        Ok(options(matches).unwrap())
    }

    #[test]
    fn accepts_a_url_and_options() {
        let options = parse(&[
            "https://example.com/files/",
            "--header",
            "Authorization: Bearer a:b",
            "--header=X-Key:1",
            "--size=5MiB",
            "--slow",
            "2m",
            "--response-timeout=1s",
            "--upstream=http://10.0.0.1:8080/files/",
        ])
        .unwrap();
        assert_eq!(options.endpoint.as_str(), "https://example.com/files/");
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [header("authorization", "Bearer a:b"), header("x-key", "1")];
        assert_eq!(options.headers, headers);
        assert_eq!(options.size, 5 << 20);
        assert_eq!(options.slow, Some(Duration::from_secs(120)));
        assert_eq!(options.timeout, Duration::from_secs(1));
        let upstream = options.upstream.map(String::from);
        assert_eq!(upstream.as_deref(), Some("http://10.0.0.1:8080/files/"));
    }

    #[test]
    fn rejects_other_urls_and_fields() {
        for (arguments, reason) in [
            (&[][..], "URL"),
            (&["example.com/files"], "has no scheme"),
            (&["https://:b@example.com/"], "is not a public URL"),
            (
                &["https://x.example/", "--header=secret"],
                "is not a header",
            ),
            (
                &["https://x.example/", "--header=a b: c"],
                "is not a header",
            ),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(reason), "{arguments:?}: {error}");
        }
    }
}
