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
};

const EXAMPLES: &str = "\
Examples:
  PROGRAM download http://localhost:8080/files/1f0c7d -o video.mp4
  PROGRAM download https://uploads.example.com/files/1f0c7d --parallel 4 --bearer @token
  PROGRAM download http://localhost:8080/files/1f0c7d -o - | tar -x

The bytes are written to a file next to FILE, which becomes FILE when it is complete. The same command resumes.

Exit codes:
  0    the file is complete
  1    the server rejected the request, the digest differs, or the file cannot be written
  2    invalid arguments
  3    the server cannot be reached or is not available; the same command resumes
  4    not authorized
  130  interrupted; the same command resumes";

const DOWNLOADS: &str = "Downloads";
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
                switch("no-resume", "Start anew, and do not resume an earlier download"),
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
        Some(output) => output,
        None => tokio::select! {
            output = default_output(&client, &url) => output?,
            () = interrupt.wait() => return Ok(FailureClass::Interrupted.exit_code()),
        },
    };
    let is_stdout = output == Path::new("-");
    if is_stdout && is_set(matches, "json") {
        return Err(Failure::usage(
            "--json and -o - both use standard output; name a file",
        ));
    }
    let download = match is_stdout {
        true => client.download_to(&url, tokio::io::stdout()),
        false => client.download(&url, &output),
    };
    let transfer = report.transfer(&output.to_string_lossy(), None);
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

/// Returns the name that the upload has in its metadata, or the last part of the URL.
async fn default_output(client: &Client, url: &Url) -> Result<PathBuf, Failure> {
    let filename = match client.inspect(url).await {
        Ok(status) => status.metadata.get_text("filename").map(String::from),
        // Any server can be downloaded from, also one without tus.
        Err(Error::Protocol(_) | Error::Rejected(_) | Error::Unsupported(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let last = || url.path_segments()?.next_back().map(str::to_owned);
    let name = filename.as_deref().and_then(safe_name).map(str::to_owned);
    let name = name.or_else(|| last().as_deref().and_then(safe_name).map(str::to_owned));
    let Some(name) = name else {
        return Err(Failure::usage(
            "the upload has no name; name the file with -o",
        ));
    };
    match Path::new(&name).exists() {
        true => Err(Failure::usage(format!(
            "{name} exists; name the file with -o to replace it"
        ))),
        false => Ok(PathBuf::from(name)),
    }
}

/// Returns the last part of a name that the uploader chose. `None` if no file may have it.
fn safe_name(name: &str) -> Option<&str> {
    let name = name.rsplit(['/', '\\']).next()?;
    let is_safe = !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(char::is_control);
    is_safe.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_uploaders_stay_in_the_folder() {
        assert_eq!(safe_name("video.mp4"), Some("video.mp4"));
        assert_eq!(safe_name("../../etc/passwd"), Some("passwd"));
        assert_eq!(safe_name("a\\b.txt"), Some("b.txt"));
        for name in ["", "..", "a/", ".bashrc", "a\nb", "../.ssh"] {
            assert_eq!(safe_name(name), None, "{name:?}");
        }
    }
}
