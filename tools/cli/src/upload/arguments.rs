//! The arguments of `upload`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use landfall_client::{Algorithm, ChunkSize, Protocol, Url};

use crate::{
    arguments::{all, get, is_set, parsed, shared, switch, value},
    exit::Failure,
};

const EXAMPLES: &str = "\
Examples:
  PROGRAM upload video.mp4 http://localhost:8080/files/
  PROGRAM upload photos/ *.pdf --parallel 8 --limit 20MiB https://uploads.example.com/files/
  pg_dump shop | PROGRAM upload - --name shop.sql https://uploads.example.com/files/
  PROGRAM upload photos/ 'https://uploads.example.com/#token=lfk_…'
  PROGRAM upload --list

An interrupted upload resumes when the same command runs again.
SIZE is in bytes, or has a unit: KiB, MiB, GiB, TiB, KB, MB, GB, TB. RATE is a size per second.

Exit codes:
  0    all files are uploaded
  1    the server rejected a file, or a file changed or cannot be read
  2    invalid arguments
  3    the server cannot be reached or is not available; the same command resumes
  4    not authorized
  130  interrupted; the same command resumes";

const UPLOADS: &str = "Uploads";
const UNFINISHED: &str = "Unfinished uploads";

/// An API key of Landfall begins with this.
const API_KEY_PREFIX: &str = "lfk_";

/// Files at a time.
const DEFAULT_PARALLEL: usize = 4;

/// Returns the command.
pub(crate) fn command(program: &str) -> Command {
    Command::new("upload")
        .about("Upload files, folders or standard input, and resume after interruptions")
        .override_usage(format!(
            "{program} upload [OPTIONS] FILE... URL\n       \
             {program} upload [OPTIONS] FILE --url UPLOAD\n       \
             {program} upload --list | --abort FILE|FOLDER|URL"
        ))
        .after_help(EXAMPLES.replace("PROGRAM", program))
        .arg(
            Arg::new("targets")
                .value_name("FILE... URL")
                .help(
                    "Files, folders, patterns, or - for standard input; then the URL of the server: that of \
                     uploads, of the upload page, or an upload link",
                )
                .value_parser(value_parser!(PathBuf))
                .num_args(1..)
                .required_unless_present_any(["list", "abort"]),
        )
        .args(upload_arguments())
        .args(unfinished_arguments())
        .args(shared())
}

fn upload_arguments() -> Vec<Arg> {
    let arguments = [
        parsed("parallel", "NUMBER", "Files at a time [default: 4]", value::count).short('p'),
        parsed("concat", "NUMBER", "Upload each file in this many parts at a time, if the server can concatenate them", value::count),
        parsed("metadata", "KEY=VALUE", "Metadata of each upload; repeatable. filename, filetype and relativePath are set by default", value::metadata)
            .short('m')
            .action(ArgAction::Append),
        parsed("key", "KEY", "API key that requests a grant for each file [default: that of LANDFALL_API_KEY]; @FILE reads it from a file", value::secret),
        parsed("token", "TOKEN", "Upload token of a grant; @FILE reads it from a file", value::secret),
        parsed("checksum", "ALGORITHM", "Send a checksum with each request, such as sha1 or sha256", value::algorithm),
        parsed("chunk-size", "SIZE", "Largest body of a request, for proxies with a limit [default: the whole file]", value::positive_size),
        Arg::new("protocol")
            .long("protocol")
            .value_name("PROTOCOL")
            .help("Protocol: auto, tus or draft (Resumable Uploads for HTTP) [default: auto]")
            .value_parser(PossibleValuesParser::new(["auto", "tus", "draft"]))
            .hide_possible_values(true),
        parsed("name", "NAME", "Name of the file in the metadata, such as that of standard input", |text| Ok(text.to_owned())),
        parsed("size", "SIZE", "Size of standard input, if it is known", value::size),
        switch("follow", "Follow symbolic links in folders"),
        switch("delete-source", "Delete each file after the server has confirmed all of it"),
        switch("no-resume", "Start from the beginning, and do not resume earlier uploads"),
        // The default, for scripts that state it.
        switch("resume", "Resume earlier uploads").hide(true).overrides_with("no-resume"),
        switch("create-only", "Create the uploads, print their URLs, and send nothing")
            .conflicts_with_all(["url", "delete-source", "concat"]),
        parsed("url", "UPLOAD", "Resume the upload with this URL, in place of creating one", value::url)
            .conflicts_with("concat"),
    ];
    Vec::from(arguments.map(|argument| argument.help_heading(UPLOADS)))
}

fn unfinished_arguments() -> Vec<Arg> {
    let arguments = [
        switch("list", "List unfinished uploads of this user"),
        Arg::new("abort")
            .long("abort")
            .value_name("FILE|FOLDER|URL")
            .help("Remove an unfinished upload, or all of a folder, from the server, with its state; repeatable")
            .value_parser(value_parser!(PathBuf))
            .action(ArgAction::Append)
            .conflicts_with_all(["list", "targets"]),
    ];
    Vec::from(arguments.map(|argument| argument.help_heading(UNFINISHED)))
}

/// The settings of the uploads.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) parallel: usize,
    pub(super) parts: usize,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) token: Option<String>,
    /// The flag that has an API key in place of `--key`.
    pub(super) key_flag: Option<&'static str>,
    pub(super) checksum: Option<Algorithm>,
    pub(super) chunk_size: ChunkSize,
    pub(super) name: Option<String>,
    /// The length of standard input.
    pub(super) size: Option<u64>,
    pub(super) follow: bool,
    pub(super) delete_source: bool,
    pub(super) resume: bool,
    pub(super) create_only: bool,
    /// The upload to resume.
    pub(super) url: Option<Url>,
}

impl Options {
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self, Failure> {
        let metadata: Vec<(String, String)> = all(matches, "metadata");
        for (index, (key, _)) in metadata.iter().enumerate() {
            if metadata
                .iter()
                .skip(index + 1)
                .any(|(other, _)| other == key)
            {
                return Err(Failure::usage(format!(
                    "--metadata {key} is given twice; a key has one value"
                )));
            }
        }
        let has_key = |flag: &&str| {
            let value = get::<String>(matches, flag);
            value.is_some_and(|value| value.starts_with(API_KEY_PREFIX))
        };
        Ok(Self {
            key_flag: ["bearer", "token"].into_iter().find(has_key),
            parallel: get(matches, "parallel").unwrap_or(DEFAULT_PARALLEL),
            parts: get(matches, "concat").unwrap_or(1),
            metadata,
            token: get(matches, "token"),
            checksum: get(matches, "checksum"),
            chunk_size: get(matches, "chunk-size").map_or(ChunkSize::Auto, ChunkSize::Fixed),
            name: get(matches, "name"),
            size: get(matches, "size"),
            follow: is_set(matches, "follow"),
            delete_source: is_set(matches, "delete-source"),
            resume: !is_set(matches, "no-resume"),
            create_only: is_set(matches, "create-only"),
            url: get(matches, "url"),
        })
    }
}

/// Returns the protocol of the arguments.
pub(super) fn protocol(matches: &ArgMatches) -> Protocol {
    match get::<String>(matches, "protocol").as_deref() {
        Some("tus") => Protocol::Tus,
        Some("draft") => Protocol::Draft,
        _ => Protocol::Auto,
    }
}
