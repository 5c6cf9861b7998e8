//! The command `download`.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgMatches, Command, builder::ValueParser, value_parser};
use landfall_client::{Client, Error, Url};

use crate::{
    arguments::{client, get, is_set, parsed, report, shared, switch, value},
    exit::{Failure, FailureClass},
    interrupt::Interrupt,
    report::TransferSummary,
    text::is_control,
};

const EXAMPLES: &str = "\
Examples:
  PROGRAM download http://localhost:8080/files/1f0c7d -o video.mp4
  PROGRAM download https://uploads.example.com/files/1f0c7d --parallel 4 --bearer @token
  PROGRAM download http://localhost:8080/files/1f0c7d -o - | tar -x

The bytes are written to a file next to FILE, which becomes FILE when it is complete. The same command resumes.
Without -o no existing file is replaced, and characters of the name that could do harm are replaced by _.

Exit codes:
  0    the file is complete
  1    the server rejected the request, the digest differs, or the file cannot be written
  2    invalid arguments
  3    the server cannot be reached or is not available; the same command resumes
  4    not authorized
  130  interrupted; the same command resumes";

const DOWNLOADS: &str = "Downloads";
/// File systems allow 255 bytes; the name of the state of an unfinished file ends with `.100.part-state`.
const MAX_NAME_BYTES: usize = 255 - ".100.part-state".len();
/// A longer end of a name is no extension.
const MAX_EXTENSION_BYTES: usize = 32;
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the command.
pub(crate) fn command(program: &str) -> Command {
    Command::new("download")
        .about("Download a file, and resume after interruptions")
        .after_help(EXAMPLES.replace("PROGRAM", program))
        .arg(
            Arg::new("url")
                .value_name("URL")
                .help("URL of the file")
                .required(true)
                .value_parser(ValueParser::new(value::url)),
        )
        .args(
            [
                Arg::new("output")
                    .long("output")
                    .short('o')
                    .value_name("FILE")
                    .help("File to write, which is replaced; - for standard output [default: the name of the upload]")
                    .value_parser(value_parser!(PathBuf)),
                parsed("parallel", "NUMBER", "Ranges at a time, if the server supports ranges [default: 1]", value::count)
                    .short('p'),
                switch("no-resume", "Start from the beginning, and do not resume an earlier download"),
            ]
            .map(|argument| argument.help_heading(DOWNLOADS)),
        )
        .args(shared())
}

/// Runs the command. Returns the exit code of the download.
pub(crate) async fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let report = report(matches, "downloaded");
    let client = client(matches)?.build()?;
    let Some(url) = get::<Url>(matches, "url") else {
        return Err(Failure::usage("no URL is named"));
    };
    let interrupt = Interrupt::install()?;
    let output = match get::<PathBuf>(matches, "output") {
        Some(path) => Output::named(path),
        None => tokio::select! {
            name = default_name(&client, &url) => Output::New(name?),
            () = interrupt.wait() => return Ok(FailureClass::Interrupted.exit_code()),
        },
    };
    let is_stdout = output == Output::Stdout;
    if is_stdout && is_set(matches, "json") {
        return Err(Failure::usage(
            "--json and -o - both use standard output; name a file",
        ));
    }
    let (download, name) = match &output {
        Output::Stdout => (client.download_to(&url, tokio::io::stdout()), "-".into()),
        Output::Device(path) => {
            let opened = tokio::fs::OpenOptions::new().write(true).open(path).await;
            let device = opened.map_err(Error::Target)?;
            (client.download_to(&url, device), path.to_string_lossy())
        }
        Output::File(path) => (client.download(&url, path), path.to_string_lossy()),
        Output::New(name) => (
            client.download(&url, name).replace(false),
            name.as_str().into(),
        ),
    };
    let transfer = report.transfer(&name, None);
    let download = download
        .parallel(get(matches, "parallel").unwrap_or(1))
        .resume(!is_set(matches, "no-resume"))
        .on_event(transfer.callback());
    let control = download.control();
    let mut run = pin!(download.run());
    let result = tokio::select! {
        result = &mut run => result,
        () = interrupt.wait() => {
            control.cancel();
            let result = tokio::time::timeout(STOP_TIMEOUT, run).await;
            result.unwrap_or(Err(Error::Cancelled))
        }
    };
    let code = match result {
        Ok(downloaded) => {
            transfer.complete(&TransferSummary {
                url: url.into(),
                length: downloaded.length,
                bytes: downloaded.bytes_received,
                resumed_from: None,
                verified: Some(downloaded.verified),
            });
            ExitCode::SUCCESS
        }
        Err(Error::Cancelled) => {
            transfer.interrupt();
            FailureClass::Interrupted.exit_code()
        }
        Err(error) => {
            let status = error.rejection().map(|rejection| rejection.status.as_u16());
            let failure = Failure::from(error);
            transfer.fail(&failure, status);
            failure.class.exit_code()
        }
    };
    report.finish();
    if interrupt.is_set() {
        report.message(match is_stdout {
            true => "interrupted; standard output cannot be continued by another run",
            false => "interrupted; run the same command again to resume",
        });
    }
    Ok(code)
}

/// The receiver of the bytes.
#[derive(Debug, PartialEq, Eq)]
enum Output {
    Stdout,
    /// A device or pipe, which receives the bytes in order.
    Device(PathBuf),
    /// A file that the user named, which is replaced.
    File(PathBuf),
    /// A file with the name of the upload, which replaces no other.
    New(String),
}

impl Output {
    /// Returns the output that the user named.
    fn named(path: PathBuf) -> Self {
        let is_special = path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
            // Links to the open files of this program.
            || path.starts_with("/dev")
            || path.starts_with("/proc");
        match () {
            () if path == Path::new("-") => Self::Stdout,
            () if is_special => Self::Device(path),
            () => Self::File(path),
        }
    }
}

/// Returns the name that the upload has in its metadata, or the last part of the URL.
async fn default_name(client: &Client, url: &Url) -> Result<String, Failure> {
    let (filename, missing) = match client.inspect(url).await {
        Ok(status) => {
            let name = status.metadata.get_text("filename").map(String::from);
            (name, "the upload has no name; name the file with -o".into())
        }
        Err(Error::Rejected(rejection)) => {
            let reason = format!("the URL is not of an upload ({rejection}); check it");
            (None, reason)
        }
        // Any server can be downloaded from, also one without tus.
        Err(Error::Protocol(_) | Error::Unsupported(_)) => {
            let reason = "the URL does not end with a name; name the file with -o";
            (None, reason.into())
        }
        Err(error) => return Err(error.into()),
    };
    let last = || url.path_segments()?.next_back().and_then(safe_name);
    let name = filename.as_deref().and_then(safe_name).or_else(last);
    let name = name.ok_or_else(|| Failure::usage(missing))?;
    match Path::new(&name).symlink_metadata() {
        Ok(_) => Err(Failure::usage(format!(
            "{name} exists; name the file with -o to replace it"
        ))),
        Err(_) => Ok(name),
    }
}

/// Returns a name for a file in this folder from one that the uploader chose; `None` if nothing of it is left.
///
/// It is no path, option or hidden file, has no characters that control terminals, is no device of Windows, and
/// leaves room for the suffix of the unfinished file.
fn safe_name(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?;
    let name: String = name
        .chars()
        .map(
            |c| match is_control(c) || cfg!(windows) && "<>:\"|?*".contains(c) {
                true => '_',
                false => c,
            },
        )
        .collect();
    // Windows drops spaces and dots at the end.
    let name = name.trim().trim_end_matches(['.', ' ']);
    if name.is_empty() {
        return None;
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let numbered = |stem: &str| {
        let device = stem.get(..3).unwrap_or_default().to_ascii_uppercase();
        let number = stem.get(3..).unwrap_or_default();
        matches!(device.as_str(), "COM" | "LPT") && matches!(number.as_bytes(), [b'0'..=b'9'])
    };
    let is_device = numbered(stem)
        || matches!(
            stem.to_ascii_uppercase().as_str(),
            "CON" | "PRN" | "AUX" | "NUL"
        );
    let rest = name.strip_prefix(['-', '.']);
    let name = match (rest, is_device) {
        (Some(rest), _) => format!("_{rest}"),
        (None, true) => format!("_{name}"),
        (None, false) => name.to_owned(),
    };
    Some(shortened_name(&name))
}

/// Cuts a name between two characters, and keeps its extension.
fn shortened_name(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
    let extension = match extension.len() <= MAX_EXTENSION_BYTES {
        true => extension,
        false => "",
    };
    let end = name.floor_char_boundary(MAX_NAME_BYTES - extension.len());
    format!("{}{extension}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_uploaders_are_those_of_files_in_the_folder() {
        for (name, expected) in [
            ("video.mp4", "video.mp4"),
            ("../../etc/passwd", "passwd"),
            ("a\\b.txt", "b.txt"),
            ("-rf", "_rf"),
            ("-", "_"),
            ("--output=x", "_-output=x"),
            (".bashrc", "_bashrc"),
            ("../.ssh", "_ssh"),
            ("a\u{1b}[2J\nb", "a_[2J_b"),
            ("gpj\u{202e}.exe\u{2069}", "gpj_.exe_"),
            ("\u{9b}", "_"),
            (" a b. ", "a b"),
            ("con", "_con"),
            ("Nul.txt", "_Nul.txt"),
            ("com1.log", "_com1.log"),
            ("COM10", "COM10"),
            ("console", "console"),
            ("überraschung.pdf", "überraschung.pdf"),
        ] {
            assert_eq!(safe_name(name).as_deref(), Some(expected), "{name:?}");
        }
        for name in ["", ".", "..", "...", "a/", " ", "/"] {
            assert_eq!(safe_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_extension() {
        for (name, extension) in [
            ("a".repeat(251) + ".mp4", ".mp4"),
            ("ä".repeat(200) + ".tar.gz", ".gz"),
            ("𝒳".repeat(300), ""),
            ("b".repeat(10) + "." + &"ä".repeat(200), ""),
        ] {
            let safe = safe_name(&name).unwrap();
            let part = format!("{safe}.100.part-state");
            assert!(part.len() <= 255 && part.len() > 250, "{}", part.len());
            let start = &safe[..safe.floor_char_boundary(200)];
            assert!(safe.ends_with(extension) && name.starts_with(start));
        }
        assert_eq!(safe_name(&"a".repeat(200)).unwrap().len(), 200);
    }
}
