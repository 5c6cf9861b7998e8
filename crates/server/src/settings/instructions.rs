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
    /// Print findings, or events, as JSON.
    Json,
    /// All events, not only some.
    All,
    /// The events that still wait.
    Waiting,
    /// The events of one way.
    Transport,
    /// The events of one upload.
    Upload,
    /// How many events to list.
    Limit,
    /// Who uses a key.
    Subject,
    /// A key to everybody's uploads.
    Admin,
    /// The types that a key may ask for.
    Types,
    /// How many uploads at a time a key may ask for.
    Active,
    /// How many uploads in a time a key may ask for.
    Rate,
    /// How many bytes a key may ask for.
    Quota,
    /// When a key stops being one.
    Expires,
    /// An origin whose pages upload.
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
        help: "With landfall sweep: list what would be deleted and why, and delete nothing. With \
               landfall s3 set-cors: show the rules that would be set, and set none.",
        meaning: Meaning::DryRun,
    },
    Instruction {
        names: &["json"],
        placeholder: None,
        help: "With landfall doctor s3: print the findings as JSON. With landfall events list and \
               landfall keys list: print an object a line.",
        meaning: Meaning::Json,
    },
    Instruction {
        names: &["origin"],
        placeholder: Some("ORIGIN"),
        help: "With landfall doctor s3: check that pages of this origin, such as \
               https://example.com, may talk to the bucket. With landfall s3 set-cors: see to it. \
               Can be given more than once.",
        meaning: Meaning::Origin,
    },
    Instruction {
        names: &["all"],
        placeholder: None,
        help: "With landfall events: list those that wait, too; retry or drop all that were put \
               aside.",
        meaning: Meaning::All,
    },
    Instruction {
        names: &["pending"],
        placeholder: None,
        help: "With landfall events list: list those that wait, not those that were put aside.",
        meaning: Meaning::Waiting,
    },
    Instruction {
        names: &["transport"],
        placeholder: Some("NAME"),
        help: "With landfall events: only those for this way, such as http.",
        meaning: Meaning::Transport,
    },
    Instruction {
        names: &["upload"],
        placeholder: Some("ID"),
        help: "With landfall events list: only those of this upload.",
        meaning: Meaning::Upload,
    },
    Instruction {
        names: &["limit"],
        placeholder: Some("COUNT"),
        help: "With landfall events list: at most so many [default:\u{a0}1000].",
        meaning: Meaning::Limit,
    },
    Instruction {
        names: &["subject"],
        placeholder: Some("NAME"),
        help: "With landfall keys add: who asks with the key, by default what the key is called. \
               Callers see the uploads of their own subject.",
        meaning: Meaning::Subject,
    },
    Instruction {
        names: &["admin"],
        placeholder: None,
        help: "With landfall keys add: the key may see and cancel everybody's uploads.",
        meaning: Meaning::Admin,
    },
    Instruction {
        names: &["types"],
        placeholder: Some("TYPES"),
        help: "With landfall keys add, and likewise --max-size, -active, -rate and -quota: what the \
               key may ask for within the limits of --grants-allowed-types, --grants-max-size and so on.",
        meaning: Meaning::Types,
    },
    Instruction {
        names: &["active"],
        placeholder: Some("COUNT"),
        help: "With landfall keys add: the most uploads that are granted or under way.",
        meaning: Meaning::Active,
    },
    Instruction {
        names: &["rate"],
        placeholder: Some("COUNT/TIME"),
        help: "With landfall keys add: the most uploads in a time, such as 100/1h.",
        meaning: Meaning::Rate,
    },
    Instruction {
        names: &["quota"],
        placeholder: Some("SIZE"),
        help: "With landfall keys add: the most bytes in all.",
        meaning: Meaning::Quota,
    },
    Instruction {
        names: &["expires"],
        placeholder: Some("TIME"),
        help: "With landfall keys add: how long the key is one, such as 90d; by default until it \
               is revoked.",
        meaning: Meaning::Expires,
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
