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
    let header = "Header of each request; repeatable";
    let bearer = "Send Authorization: Bearer TOKEN; @FILE reads it from a file";
    let cookie = "Cookie of each request; repeatable; @FILE reads it from a file";
    let limit = "Transfer at most this many bytes per second, such as 60MiB";
    let retries = "Attempts without progress until a transfer fails [default: 12]";
    let timeout = "Longest time in which no byte is sent or received [default: 30s]";
    let cacert = "Trust the certificates in this PEM file, in addition to those of the system";
    let insecure = "Accept any certificate: others may read and change all data";
    let http = "Version of HTTP: auto, 1.1 or 2 (without TLS, too) [default: auto]";
    let requests = [
        parsed("header", "NAME: VALUE", header, value::header)
            .short('H')
            .action(ArgAction::Append),
        parsed("bearer", "TOKEN", bearer, value::secret),
        parsed("cookie", "NAME=VALUE", cookie, value::secret).action(ArgAction::Append),
    ];
    let connections = [
        parsed("limit", "RATE", limit, value::rate),
        parsed("retries", "NUMBER", retries, value::count),
        parsed("timeout", "TIME", timeout, value::duration),
        Arg::new("cacert")
            .long("cacert")
            .value_name("FILE")
            .help(cacert)
            .value_parser(clap::value_parser!(PathBuf)),
        switch("insecure", insecure).short('k'),
        parsed("http", "VERSION", http, http_version),
    ];
    let output = [
        switch("json", "Print events as JSON, an object per line"),
        switch("quiet", "Print no progress, but errors and URLs").short('q'),
    ];
    let mut arguments = Vec::from(requests.map(|argument| argument.help_heading(REQUESTS)));
    arguments.extend(connections.map(|argument| argument.help_heading(CONNECTIONS)));
    arguments.extend(output.map(|argument| argument.help_heading(OUTPUT)));
    arguments
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
