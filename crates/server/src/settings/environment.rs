//! Collects `LANDFALL_…` variables, and the contents of files that `LANDFALL_…_FILE` names, as texts of settings.
//!
//! Values are parsed later, when all sources are known. A file has at most `MAX_FILE_SIZE` bytes; if it cannot be read,
//! this is an error only for commands that use its setting.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};

use super::layers::{Layers, Source};
use super::problem::{Problem, nearest};
use super::sections::table::{Setting, Subcommand, variable};
use super::sections::{is_used_by, settings};
use super::unsupported;

const PREFIX: &str = "LANDFALL_";
/// The key of `landfall upload`.
const OF_CLIENT: &str = "LANDFALL_API_KEY";
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// Returns the configuration file that one of the variables names. An empty variable is an error like an
/// empty flag. An unknown one is a problem if its name is similar to that of a setting. Others cause a
/// warning only, because another program may use them.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    subcommand: Subcommand,
    layers: &mut Layers,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<String> {
    let mut relevant: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    relevant.sort();
    let mut config = None;
    for (name, text) in relevant {
        let Ok(text) = text.into_string() else {
            problems.push(Problem::new(name, "is not valid UTF-8"));
            continue;
        };
        if name.starts_with("LANDFALL_BUILD_")
            || name == OF_CLIENT
            || is_from_kubernetes(&name, &text)
        {
            continue;
        }
        if name == variable("config") {
            if text.is_empty() {
                problems.push(Problem::new(name, "is empty; write a file, or unset it"));
            } else {
                config = Some(text);
            }
        } else if let Some(setting) = settings().find(|setting| setting.variable() == name) {
            layers.add(setting, text, Source::Variable(name));
        } else if let Some(setting) = setting_in_file(&name) {
            match read_file(&text) {
                _ if layers.has_variable(setting.name) => {
                    let reason = format!("conflicts with {}", setting.variable());
                    problems.push(Problem::new(name, reason));
                }
                Ok(value) => layers.add(setting, value, Source::Variable(name)),
                Err(error) => {
                    let reason = format!("cannot read {text:?}: {error}");
                    // Another command may run as a user who must not read a secret of the server.
                    match is_used_by(setting.name, subcommand) {
                        true => problems.push(Problem::new(name, reason).at_start()),
                        false => warnings.push(format!("{name}: {reason}")),
                    }
                }
            }
        } else if let Some(flag) = unsupported::all().find(|flag| variable(flag.name) == name) {
            if !flag.is_default(&text) {
                problems.push(Problem::new(name, flag.reason));
            }
        } else {
            let key = name[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
            match nearest(&key) {
                Some(nearest) => {
                    let nearest = variable(nearest);
                    let reason = format!("unknown variable; did you mean {nearest}?");
                    problems.push(Problem::new(name, reason));
                }
                None => warnings.push(format!("{name}: unknown variable, ignored")),
            }
        }
    }
    config
}

/// Containers get secrets as files: `LANDFALL_DATABASE_FILE` names one with the value of `LANDFALL_DATABASE`.
fn setting_in_file(name: &str) -> Option<&'static Setting> {
    let name = name.strip_suffix("_FILE")?;
    settings().find(|setting| setting.variable() == name)
}

/// Reads a value without the line break at its end.
fn read_file(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::other("the file is larger than 64 KiB"));
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    Ok(value.strip_suffix('\r').unwrap_or(value).to_owned())
}

/// Kubernetes sets `LANDFALL_PORT=tcp://10.0.0.1:80`, `LANDFALL_SERVICE_HOST` and similar ones in every
/// pod, for a service called `landfall`.
fn is_from_kubernetes(name: &str, text: &str) -> bool {
    let address = text.starts_with("tcp://") || text.starts_with("udp://");
    let of_port = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let (port, rest) = rest.split_once('_').unwrap_or((rest, ""));
        port.parse::<u16>().is_ok() && (rest.starts_with("TCP") || rest.starts_with("UDP"))
    });
    of_port
        || name.ends_with("_PORT") && address
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
}
