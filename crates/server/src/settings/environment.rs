//! The environment.

use std::ffi::OsString;

use super::later;
use super::layers::{Layers, Source};
use super::problem::{Problem, nearest};
use super::table::{settings, variable};

/// What all our variables begin with.
const PREFIX: &str = "LANDFALL_";

/// Reads the variables that begin with `LANDFALL_`, and returns the configuration file that one
/// of them names. An empty variable is set: where a value is needed, it is an error like an empty flag.
///
/// One that is nearly the name of a setting is a problem, and one that is far from any is worth
/// a warning only: it may be meant for somebody else.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    layers: &mut Layers,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<String> {
    let mut ours: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();
    let mut config = None;
    for (name, text) in ours {
        let Ok(text) = text.into_string() else {
            problems.push(Problem::new(name, "is not valid UTF-8"));
            continue;
        };
        if of_build(&name) || of_kubernetes(&name, &text) {
            continue;
        }
        if name == variable("config") {
            if text.is_empty() {
                problems.push(Problem::new(name, "is empty; write a file, or unset it"));
            } else {
                config = Some(text);
            }
        } else if let Some(setting) = settings().find(|setting| setting.variable() == name) {
            layers.give(setting, text, Source::Variable(name));
        } else if let Some(later) = later::all().find(|later| variable(later.name) == name) {
            if !later.asks_for_nothing(&text) {
                problems.push(Problem::new(name, later.reason));
            }
        } else {
            let key = name[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
            match nearest(&key) {
                Some(nearest) => problems.push(Problem::new(
                    name,
                    format!(
                        "there is no such setting; did you mean {}?",
                        variable(nearest)
                    ),
                )),
                None => warnings.push(format!("{name}: there is no such setting; it is not used")),
            }
        }
    }
    config
}

/// Whether a variable is read when the program is built, not when it runs.
fn of_build(name: &str) -> bool {
    name.starts_with("LANDFALL_BUILD_")
}

/// Whether Kubernetes made a variable: for a service called `landfall` it gives every pod
/// `LANDFALL_PORT=tcp://10.0.0.1:80`, `LANDFALL_SERVICE_HOST` and more of the kind.
fn of_kubernetes(name: &str, text: &str) -> bool {
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
