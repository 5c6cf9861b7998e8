//! The `landfall` program.

use std::io::{self, Write as _};
use std::process::ExitCode;

use landfall_server::settings::{self, Failure, Invocation};

fn main() -> ExitCode {
    match settings::read(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Invocation::Print(text)) => print(&text),
        Ok(Invocation::ConfigCheck(loaded)) => {
            for warning in &loaded.warnings {
                eprintln!("landfall: warning: {warning}");
            }
            print(&loaded.to_toml())
        }
        Ok(Invocation::Serve(loaded) | Invocation::Sweep { loaded, .. }) => {
            print(&loaded.to_toml())
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(Failure::EXIT_CODE)
        }
    }
}

/// Prints a text. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
