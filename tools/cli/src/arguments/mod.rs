//! The arguments that both commands have: requests, connections and output.

pub(crate) mod value;

use std::{fs, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches};
use landfall_client::{Client, ClientBuilder, HeaderName, HeaderValue, HttpVersion, RetryPolicy};
pub(crate) use landfall_console::{all, get, parsed};

use crate::{
    exit::Failure,
    report::{OutputFormat, Report},
};

const REQUESTS: &str = "Requests";
const CONNECTIONS: &str = "Connections";
const OUTPUT: &str = "Output";

/// Returns the arguments of requests, connections and output.
pub(crate) fn shared() -> Vec<Arg> {
    vec![
        parsed(
            "header",
            "NAME: VALUE",
            "Header of each request; repeatable",
            value::header,
        )
        .short('H')
        .action(ArgAction::Append)
        .help_heading(REQUESTS),
        parsed(
            "bearer",
            "TOKEN",
            "Send Authorization: Bearer TOKEN; @FILE reads it from a file",
            value::secret,
        )
        .help_heading(REQUESTS),
        parsed(
            "cookie",
            "NAME=VALUE",
            "Cookie of each request; repeatable; @FILE reads it from a file",
            value::secret,
        )
        .action(ArgAction::Append)
        .help_heading(REQUESTS),
        parsed(
            "limit",
            "RATE",
            "Transfer at most this many bytes per second, such as 60MiB",
            value::rate,
        )
        .help_heading(CONNECTIONS),
        parsed(
            "retries",
            "NUMBER",
            "Attempts without progress until a transfer fails [default: 12]",
            value::count,
        )
        .help_heading(CONNECTIONS),
        parsed(
            "timeout",
            "TIME",
            "Longest time in which no byte is sent or received [default: 30s]",
            value::duration,
        )
        .help_heading(CONNECTIONS),
        Arg::new("cacert")
            .long("cacert")
            .value_name("FILE")
            .help("Trust the certificates in this PEM file, in addition to those of the system")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading(CONNECTIONS),
        switch(
            "insecure",
            "Accept any certificate: others may read and change all data",
        )
        .short('k')
        .help_heading(CONNECTIONS),
        parsed(
            "http",
            "VERSION",
            "Version of HTTP: auto, 1.1 or 2 (without TLS, too) [default: auto]",
            http_version,
        )
        .help_heading(CONNECTIONS),
        switch("json", "Print events as JSON, an object per line").help_heading(OUTPUT),
        switch("quiet", "Print no progress, but errors and URLs")
            .short('q')
            .help_heading(OUTPUT),
    ]
}

/// A flag without a value.
pub(crate) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
}

pub(crate) fn is_set(matches: &ArgMatches, name: &str) -> bool {
    get(matches, name).unwrap_or(false)
}

/// Returns the settings of the client that the arguments have.
pub(crate) fn client(matches: &ArgMatches) -> Result<ClientBuilder, Failure> {
    let mut retry = RetryPolicy::default();
    if let Some(attempts) = get::<usize>(matches, "retries") {
        retry.max_attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    }
    let mut client = Client::builder()
        .http_version(get(matches, "http").unwrap_or_default())
        .accept_invalid_certificates(is_set(matches, "insecure"))
        .retry(retry);
    if let Some(timeout) = get::<Duration>(matches, "timeout") {
        client = client.idle_timeout(timeout);
    }
    if let Some(rate) = get::<u64>(matches, "limit") {
        client = client.rate_limit(rate);
    }
    if let Some(path) = get::<PathBuf>(matches, "cacert") {
        let pem = fs::read(&path).map_err(|error| {
            Failure::usage(format!(
                "--cacert: failed to read {}: {error}",
                path.display()
            ))
        })?;
        client = client.root_certificates(pem);
    }
    for (name, value) in headers(matches)? {
        client = client.header(name, value);
    }
    Ok(client)
}

fn headers(matches: &ArgMatches) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = all(matches, "header");
    if !headers.iter().any(|(name, _)| *name == "user-agent") {
        let agent = HeaderValue::from_static(concat!("landfall/", env!("CARGO_PKG_VERSION")));
        headers.push((HeaderName::from_static("user-agent"), agent));
    }
    let cookies: Vec<String> = all(matches, "cookie");
    if !cookies.is_empty() {
        headers.push((
            HeaderName::from_static("cookie"),
            secret("--cookie", &cookies.join("; "))?,
        ));
    }
    if let Some(token) = get::<String>(matches, "bearer") {
        let value = secret("--bearer", &format!("Bearer {token}"))?;
        headers.push((HeaderName::from_static("authorization"), value));
    }
    Ok(headers)
}

pub(crate) fn secret(flag: &str, text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Failure::usage(format!("{flag}: the value has control characters")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the report in the format of the arguments.
pub(crate) fn report(matches: &ArgMatches, verb: &'static str) -> Report {
    let format = match (is_set(matches, "json"), is_set(matches, "quiet")) {
        (true, _) => OutputFormat::Json,
        (_, true) => OutputFormat::Quiet,
        _ => OutputFormat::of_terminal(),
    };
    Report::new(format, verb)
}

fn http_version(text: &str) -> Result<HttpVersion, String> {
    match text {
        "auto" => Ok(HttpVersion::Auto),
        "1" | "1.1" => Ok(HttpVersion::Http1),
        "2" => Ok(HttpVersion::Http2),
        _ => Err(format!("{text:?} is not a version; write auto, 1.1 or 2")),
    }
}
