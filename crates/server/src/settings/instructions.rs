//! What can be said on the command line beside settings.

/// Something said on the command line that isn't a setting.
#[derive(Debug)]
pub(super) struct Instruction {
    /// Its names without dashes, the usual one first.
    pub(super) names: &'static [&'static str],
    /// What its value is called, if it takes one.
    pub(super) placeholder: Option<&'static str>,
    /// What it does.
    pub(super) help: &'static str,
    /// What it stands for.
    pub(super) meaning: Meaning,
}

/// What an instruction stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Read settings from a file.
    Config,
    /// Say what would be deleted, delete nothing.
    DryRun,
    /// Print findings as JSON.
    Json,
    /// The origin whose pages upload.
    Origin,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// All instructions.
pub(super) static INSTRUCTIONS: &[Instruction] = &[
    Instruction {
        names: &["config"],
        placeholder: Some("FILE"),
        help: "Read settings from this TOML file; LANDFALL_CONFIG names one as well.",
        meaning: Meaning::Config,
    },
    Instruction {
        names: &["dry-run"],
        placeholder: None,
        help: "With landfall sweep: list what would be deleted and why, and delete nothing.",
        meaning: Meaning::DryRun,
    },
    Instruction {
        names: &["json"],
        placeholder: None,
        help: "With landfall doctor s3: print the findings as JSON.",
        meaning: Meaning::Json,
    },
    Instruction {
        names: &["origin"],
        placeholder: Some("ORIGIN"),
        help: "With landfall doctor s3: check that pages of this origin, such as \
               https://example.com, may talk to the bucket.",
        meaning: Meaning::Origin,
    },
    Instruction {
        names: &["help", "h"],
        placeholder: None,
        help: "Print this text.",
        meaning: Meaning::Help,
    },
    Instruction {
        names: &["version"],
        placeholder: None,
        help: "Print the version.",
        meaning: Meaning::Version,
    },
];

/// The instruction of this name.
pub(super) fn instruction(name: &str) -> Option<&'static Instruction> {
    INSTRUCTIONS
        .iter()
        .find(|known| known.names.contains(&name))
}
