//! Runs the commands of the program.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use crate::s3;
use crate::settings::{self, Failure, Invocation, Loaded, Options, Subcommand};
#[cfg(feature = "full")]
use crate::trace;
use crate::{app, clouds, log, tools};

/// Runs the command of this process's arguments and environment variables.
///
/// It is not `async`: rustc would then compile all that it awaits a second time, in the program.
pub fn run() -> ExitCode {
    if let Some(failure) = tools::run() {
        print_error(&failure);
        return ExitCode::FAILURE;
    }
    // Those that the dynamic linker has used, the relocations of the program.
    #[cfg(target_os = "linux")]
    app::unmap_used_pages();
    match settings::read(arguments(), std::env::vars_os()) {
        Ok(Invocation::Print(text)) => match app::print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Invocation::Run(loaded, options)) => run_command(*loaded, *options),
        Err(failure) => fail(&failure),
    }
}

/// Returns the arguments of this process. A health check of an image has none, so they are those of the server that
/// is the first process of the container, like the variables.
fn arguments() -> Vec<OsString> {
    let mut own: Vec<_> = std::env::args_os().skip(1).collect();
    let is_check = matches!(own.as_slice(), [check] | [check, _] if check == "health")
        && own.iter().skip(1).all(|flag| flag == "--ready");
    if is_check
        && std::process::id() != 1
        && let Ok(line) = std::fs::read("/proc/1/cmdline")
    {
        own.splice(1..1, server_arguments(&line));
    }
    own
}

/// Returns the arguments of a command line if it is that of a server.
fn server_arguments(line: &[u8]) -> Vec<OsString> {
    let mut arguments = line.split(|byte| *byte == 0);
    let program = arguments.next().unwrap_or_default();
    if program.rsplit(|byte| *byte == b'/').next() != Some(b"landfall") {
        return Vec::new();
    }
    // Its last argument ends with a zero, too.
    let arguments = arguments.filter(|argument| !argument.is_empty());
    arguments
        .map(|argument| OsStr::from_bytes(argument).to_owned())
        .collect()
}

fn run_command(loaded: Loaded, options: Options) -> ExitCode {
    match loaded.subcommand {
        Subcommand::Sweep => block_on(app::sweep(loaded, options.dry_run)),
        Subcommand::DoctorFiles => block_on(app::doctor_files(loaded)),
        Subcommand::DoctorTls => app::doctor_tls(&loaded, options.json),
        Subcommand::DoctorS3 => block_on(s3::doctor::run(loaded, options.json, options.origins)),
        Subcommand::DoctorGcs => block_on(clouds::doctor::gcs(loaded, options.json)),
        Subcommand::DoctorAzure => block_on(clouds::doctor::azure(loaded, options.json)),
        Subcommand::SetCors => block_on(s3::cors::set(loaded, options.origins, options.dry_run)),
        Subcommand::Events => block_on(app::events(loaded, options.events)),
        Subcommand::Keys => block_on(app::keys(loaded, options.keys, options.json)),
        Subcommand::Link => block_on(app::link(loaded, options.link, options.json)),
        Subcommand::Migrate => block_on(app::migrate(loaded)),
        Subcommand::Health => block_on(app::health(loaded, options.ready)),
        Subcommand::ConfigCheck => {
            block_on(app::config_check(loaded, options.offline, options.changed))
        }
        Subcommand::ConfigShow => block_on(app::config_show(loaded, options)),
        Subcommand::Serve => {
            let settings = &loaded.settings;
            #[cfg(feature = "full")]
            if let Err(error) = trace::init() {
                print_error(&format!("landfall: cannot send traces: {error:#}"));
                return ExitCode::FAILURE;
            }
            log::init(settings);
            block_on(app::serve(loaded))
        }
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("landfall: cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) => fail(failure),
            None => {
                print_error(&format!("landfall: {error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}

fn fail(failure: &Failure) -> ExitCode {
    print_error(&failure.to_string());
    ExitCode::from(failure.exit_code())
}

/// In red on a terminal, unless `NO_COLOR` is set.
fn print_error(text: &str) {
    let has_color = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
    for line in text.lines() {
        match line.strip_prefix("landfall:") {
            Some(rest) if has_color => eprintln!("\x1b[1;31mlandfall:\x1b[0m{rest}"),
            _ => eprintln!("{line}"),
        }
    }
}
