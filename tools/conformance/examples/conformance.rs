//! Checks a server: `cargo run -p landfall-conformance --example conformance -- URL`.

use std::process::ExitCode;

use landfall_conformance::cli;

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let matches = cli::command().get_matches();
    let status = cli::run(&matches, std::io::stdout()).await?;
    Ok(ExitCode::from(status.code()))
}
