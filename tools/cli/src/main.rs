//! The program `landfall-cli`: uploads, downloads and checks of servers, without a server.

use std::{path::Path, process::ExitCode};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

const NAME: &str = "landfall-cli";

fn main() -> ExitCode {
    let matches = command(called_as()).get_matches();
    match matches.subcommand() {
        Some(("version", _)) => landfall_cli::print(&version()),
        Some(("completions", matches)) => completions(matches),
        Some(("man", matches)) => man_page(matches),
        Some((name, matches)) => landfall_cli::run(name, matches),
        None => ExitCode::from(2),
    }
}

/// Returns the name in help texts: `landfall` when that program has started this one.
fn called_as() -> &'static str {
    let path = std::env::args_os().next().unwrap_or_default();
    match Path::new(&path).file_name() {
        Some(name) if name == "landfall" => "landfall",
        _ => NAME,
    }
}

fn command(name: &'static str) -> Command {
    Command::new(name)
        .bin_name(name)
        .about(
            "Uploads and downloads files, and resumes after interruptions (tus 1.0.0, IETF draft)",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(landfall_cli::commands(name))
        .subcommands([
            Command::new("completions")
                .about("Print a shell completion script")
                .arg(
                    Arg::new("shell")
                        .value_name("SHELL")
                        .help("Shell, such as bash, zsh or fish")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
            Command::new("man")
                .about("Print a man page")
                .arg(
                    Arg::new("command").value_name("COMMAND").help(
                        "Command of the page, such as upload or doctor-proxy; without it, that of the program",
                    ),
                )
                .hide(true),
            Command::new("version").about("Print the version"),
        ])
}

fn version() -> String {
    format!(
        "Version: {}\nCommit: {}\nDate: {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("LANDFALL_BUILD_COMMIT").unwrap_or("n/a"),
        option_env!("LANDFALL_BUILD_DATE").unwrap_or("n/a"),
    )
}

fn completions(matches: &ArgMatches) -> ExitCode {
    let shell = matches.get_one("shell").copied().unwrap_or(Shell::Bash);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(NAME), NAME, &mut script);
    landfall_cli::print(&String::from_utf8_lossy(&script))
}

fn man_page(matches: &ArgMatches) -> ExitCode {
    let mut root = command(NAME);
    root.build();
    let name = matches.get_one::<String>("command");
    let page = match name {
        None => Some(root),
        Some(name) => {
            let mut path = name.split('-');
            let page = path.try_fold(&root, |page, name| page.find_subcommand(name));
            page.cloned()
        }
    };
    let Some(page) = page else {
        let name = name.map_or("", String::as_str);
        let names = landfall_cli::NAMES.join(", ");
        eprintln!("{NAME}: unknown command {name:?}; there are {names}");
        return ExitCode::from(2);
    };
    let mut text = Vec::new();
    // Writing to a vector does not fail.
    let _ = clap_mangen::Man::new(page).render(&mut text);
    landfall_cli::print(&String::from_utf8_lossy(&text))
}
