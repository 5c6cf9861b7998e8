//! The commands `upload` and `download`, on `landfall-client`, and `conformance` and `doctor proxy`, on `landfall-conformance`.
//!
//! The server's program `landfall` runs `landfall-cli` for them. A command selects files (`selection`), transfers several at a time (`upload`, `download`), and reports to
//! a terminal, a log or a program (`report`). URLs and JSON are printed to standard output, everything else to
//! standard error.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod doctor;
mod download;
mod exit;
mod interrupt;
mod report;
mod selection;
mod state;
mod text;
mod upload;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{ArgMatches, Command};

use self::exit::Failure;

/// The names of the commands.
pub const NAMES: [&str; 4] = ["upload", "download", "conformance", "doctor"];

/// Returns the commands [`NAMES`], to be added to the command line of a program with this name.
pub fn commands(program: &str) -> [Command; 4] {
    [
        upload::command(program),
        download::command(program),
        landfall_conformance::cli::command(),
        doctor::command(program),
    ]
}

/// Runs a command of [`commands`] with its matches, and returns the exit code of the process.
///
/// Exit codes of transfers: 0 all done; 1 a transfer failed; 2 invalid arguments; 3 the server cannot be reached, and the same
/// command resumes; 4 not authorized; 130 interrupted. Blocks until the transfers have ended.
pub fn run(name: &str, matches: &ArgMatches) -> ExitCode {
    // One thread: sending is bound by the network, and reading has threads in the client.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Err(error) => Err(Failure::new(format!(
            "failed to start the runtime: {error}"
        ))),
        Ok(runtime) => {
            let result = match name {
                "upload" => runtime.block_on(upload::run(matches)),
                "doctor" => runtime.block_on(doctor::run(matches)),
                "conformance" => runtime.block_on(check_conformance(matches)),
                _ => runtime.block_on(download::run(matches)),
            };
            // A read of standard input may never return.
            runtime.shutdown_background();
            result
        }
    };
    result.unwrap_or_else(|failure| {
        text::print_error(&failure.to_string());
        failure.class.exit_code()
    })
}

async fn check_conformance(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let is_list = matches.get_flag("list");
    match landfall_conformance::cli::run(matches, io::stdout()).await {
        Ok(status) => Ok(ExitCode::from(status.code())),
        // A closed pipe, such as that of `head`, ends a list. A check that it cuts off has not passed.
        Err(error) if is_list && error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(format!("failed to write the report: {error}"))),
    }
}

/// Prints a text to standard output. A closed pipe, such as that of `head`, is no error.
pub fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
