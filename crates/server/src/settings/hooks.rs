//! Parsers of settings of hooks. Errors are as in [`value`](super::value).

use ipnet::IpNet;
use landfall_hooks::HookName;
use landfall_hooks::format::Format;

use super::address::{self, host_of_target};
use super::types::{Database, EnabledHook, HeaderKey, Secret};
use super::value::{
    Parsed, choice, count, duration, integer, is_plain, list, nearest_of, number, one_of, or_none,
    path, valid,
};
use landfall_net::redacted_url;

const FORMATS: &[(&str, Format)] = &[
    ("auto", Format::Auto),
    ("v2", Format::V2),
    ("v1", Format::V1),
];

/// In tusd's order; an empty list means these.
const TUSD_HOOKS: [HookName; 7] = [
    HookName::PreCreate,
    HookName::PostCreate,
    HookName::PostReceive,
    HookName::PreTerminate,
    HookName::PostTerminate,
    HookName::PostFinish,
    HookName::PreFinish,
];

/// The prefixes of `--hooks-enabled-events`, and the settings of the transports.
const TRANSPORTS: [(&str, &str); 4] = [
    ("dir", "hooks-dir"),
    ("http", "hooks-http"),
    ("grpc", "hooks-grpc"),
    ("broker", "hooks-broker"),
];

fn enabled_hook(item: &str) -> Parsed<EnabledHook> {
    let (transport, text) = match item.split_once(':') {
        None => (None, item),
        Some((prefix, text)) => {
            let known = TRANSPORTS.iter().find(|(known, _)| *known == prefix);
            let (_, setting) = known.ok_or_else(|| {
                let known = TRANSPORTS.map(|(known, _)| known);
                format!("unknown transport {prefix:?}; write {}", one_of(&known))
            })?;
            (Some(*setting), text)
        }
    };
    let name: HookName = text.parse().map_err(|_| {
        let known = HookName::ALL.map(HookName::as_str);
        let nearest = nearest_of(text, known.into_iter());
        let tip = nearest.map_or(String::new(), |name| {
            format!("; tip: a similar hook exists: '{name}'")
        });
        format!("unknown hook {text:?}{tip}; write {}", one_of(&known))
    })?;
    if transport == Some("hooks-broker") && name.is_blocking() {
        let reason = "is a blocking hook, which brokers do not support";
        return Err(format!("{name} {reason}; write post-… and Upload… events"));
    }
    Ok(EnabledHook { transport, name })
}

pub(super) fn enabled(text: &str) -> Parsed<Vec<EnabledHook>> {
    let mut hooks = Vec::new();
    for item in list(text) {
        let hook = enabled_hook(item)?;
        if !hooks.contains(&hook) {
            hooks.push(hook);
        }
    }
    if hooks.is_empty() {
        let of_tusd = TUSD_HOOKS.map(|name| EnabledHook {
            transport: None,
            name,
        });
        hooks.extend(of_tusd);
    }
    Ok(hooks)
}

pub(super) fn format(text: &str) -> Parsed<Format> {
    choice(text, FORMATS)
}

pub(super) fn url(text: &str, schemes: &[&str], example: &str) -> Parsed<Option<Secret>> {
    or_none(text, |text| {
        let shown = redacted_url(text);
        let Some((scheme, rest)) = text.split_once("://") else {
            let reason = "has no scheme; write a URL such as";
            return Err(format!("{shown:?} {reason} {example}"));
        };
        if !schemes.contains(&scheme) {
            let known: Vec<_> = schemes.iter().map(|known| format!("{known}://")).collect();
            let write = format!("write {}", one_of(&known));
            return Err(format!("{shown:?} has the scheme {scheme}://; {write}"));
        }
        let has_host = !rest.is_empty() && !rest.starts_with(['/', '?', '#']);
        if !has_host || text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(format!("{shown:?} is not a URL such as {example}"));
        }
        Ok(Secret::new(text))
    })
}

pub(super) fn endpoint(text: &str) -> Parsed<Option<Secret>> {
    const EXAMPLE: &str = "http://127.0.0.1:3000/hooks";
    let parsed = url(text, &["http", "https"], EXAMPLE)?;
    match &parsed {
        Some(url) if url.reveal().parse::<http::Uri>().is_err() => {
            let shown = url.redacted_url();
            Err(format!("{shown:?} is not a URL such as {EXAMPLE}"))
        }
        _ => Ok(parsed),
    }
}

/// Networks in addition to public hosts, which all redirects may lead to.
pub(super) fn redirects(text: &str) -> Parsed<Option<Vec<IpNet>>> {
    or_none(text, |text| {
        let networks: Vec<_> = list(text).filter(|item| *item != "public").collect();
        address::networks(&networks.join(","))
    })
}

pub(super) fn name(text: &str) -> Parsed<String> {
    if text.is_empty() {
        return Err("is empty; write a name".to_owned());
    }
    name_or_empty(text)
}

pub(super) fn name_or_empty(text: &str) -> Parsed<String> {
    if text.len() > 255 || text.contains(|c: char| c.is_control() || c == ' ') {
        let expected = "write at most 255 bytes without spaces";
        return Err(format!("{text:?} is not a valid name; {expected}"));
    }
    match text.replace("{event}", "").contains(['{', '}']) {
        true => Err(format!(
            "{text:?} has braces; only {{event}} is a placeholder"
        )),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn grpc_target(text: &str) -> Parsed<String> {
    let text = name(text)?;
    let is_socket = text.starts_with("unix:");
    let has_host = host_of_target(&text).is_some_and(|host| is_host(&host));
    let expected = "a server address; write HOST:PORT, such as 127.0.0.1:50051, or unix:///PATH";
    valid(&text, is_socket || has_host, expected)
}

pub(super) fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && is_plain(text, "-_.:%")
}

pub(super) fn secrets(text: &str) -> Parsed<Vec<Secret>> {
    Ok(list(text).map(Secret::new).collect())
}

pub(super) fn stop_code(text: &str) -> Parsed<Option<u16>> {
    match integer(text)? {
        0 => Ok(None),
        600.. => Err(format!("{text} is not an exit code or HTTP status")),
        _ => number(text).map(Some),
    }
}

/// A number without a unit means seconds, as in tusd 1.
pub(super) fn backoff(text: &str) -> Parsed<std::time::Duration> {
    match integer(text) {
        Ok(seconds) => Ok(std::time::Duration::from_secs(seconds)),
        Err(_) => duration(text),
    }
}

/// `None` is without end.
pub(super) fn max_hold(text: &str) -> Parsed<Option<std::time::Duration>> {
    match text {
        "strict" => Ok(None),
        text => duration(text).map(Some),
    }
}

pub(super) fn is_bare_number(text: &str) -> bool {
    integer(text).is_ok_and(|seconds| seconds != 0)
}

pub(super) fn concurrency(text: &str) -> Parsed<usize> {
    match count(text)? {
        count if count > 65_535 => Err(format!("{text} is too large; the maximum is 65535")),
        count => Ok(count),
    }
}

pub(super) fn header_key(text: &str) -> Parsed<Option<HeaderKey>> {
    or_none(text, |text| match text {
        "memory" => Ok(HeaderKey::Memory),
        file => path(file).map(HeaderKey::File),
    })
}

pub(super) fn database(text: &str) -> Parsed<Option<Database>> {
    or_none(text, |text| match text.split_once("://") {
        None => path(text).map(Database::Sqlite),
        Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
            Ok(Database::Postgres(text.to_owned()))
        }
        Some(("sqlite", file)) if !file.is_empty() => Ok(Database::Sqlite(path(file)?)),
        Some(_) => Err(format!(
            "{:?} is not a database; write a file, or a URL such as postgres://landfall@db.example.com/landfall",
            redacted_url(text)
        )),
    })
}
