//! The settings of a simulation. They hold no state.

use std::env;

/// A defect of the environment that the simulation must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The store acknowledges some bytes that it does not store.
    LostBytes,
    /// The bucket says that every lease is released.
    TwoWriters,
    /// The receiver acknowledges some events that it does not get.
    LostEvent,
    /// The receiver gets some events after later ones.
    ReorderedEvent,
    /// The heartbeats of dead nodes continue.
    LeaseNeverFreed,
    /// The store never answers for some uploads.
    StarvedRequest,
}

impl Mutant {
    /// All mutants, by name.
    const ALL: [(&str, Self); 6] = [
        ("lost-bytes", Self::LostBytes),
        ("two-writers", Self::TwoWriters),
        ("lost-event", Self::LostEvent),
        ("reordered-event", Self::ReorderedEvent),
        ("lease-never-freed", Self::LeaseNeverFreed),
        ("starved-request", Self::StarvedRequest),
    ];
}

/// The settings, from `LANDFALL_SIMULATION_…`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) uploads: usize,
    pub(crate) mutant: Option<Mutant>,
    /// Events are printed.
    pub(crate) is_verbose: bool,
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn from_env() -> Result<Self, String> {
        let mutant = match env::var("LANDFALL_SIMULATION_MUTANT") {
            Err(_) => None,
            Ok(name) => {
                let found = Mutant::ALL.iter().find(|(known, _)| *known == name);
                let (_, mutant) = found.ok_or_else(|| format!("there is no mutant {name:?}"))?;
                Some(*mutant)
            }
        };
        Ok(Self {
            seed: number("SEED", 1)?,
            nodes: size("NODES", 50)?,
            uploads: size("UPLOADS", 2000)?,
            mutant,
            is_verbose: env::var("LANDFALL_SIMULATION_VERBOSE").is_ok(),
        })
    }

    /// Milliseconds in which all uploads start.
    pub(crate) fn arrival_span(&self) -> u64 {
        120_000
    }
}

fn size(name: &str, otherwise: u64) -> Result<usize, String> {
    let number = number(name, otherwise)?;
    usize::try_from(number).map_err(|error| error.to_string())
}

fn number(name: &str, otherwise: u64) -> Result<u64, String> {
    let name = format!("LANDFALL_SIMULATION_{name}");
    match env::var(&name) {
        Err(_) => Ok(otherwise),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name} is not a number: {text:?}")),
    }
}
