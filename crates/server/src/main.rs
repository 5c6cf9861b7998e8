//! The `landfall` program.

use std::process::ExitCode;

use landfall_server::settings::{self, Failure, Invocation};

fn main() -> ExitCode {
    let invocation = match settings::read(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(invocation) => invocation,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(Failure::EXIT_CODE);
        }
    };
    match invocation {
        Invocation::Print(text) => print!("{text}"),
        Invocation::ConfigCheck(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("landfall: warning: {warning}");
            }
            print!("{}", loaded.to_toml());
        }
        Invocation::Serve(loaded) | Invocation::Sweep { loaded, .. } => {
            print!("{}", loaded.to_toml());
        }
    }
    ExitCode::SUCCESS
}
