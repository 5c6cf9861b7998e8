//! The `landfall` program.

use std::{
    future::Future,
    io::{self, Write as _},
    process::ExitCode,
};

#[cfg(feature = "s3")]
use landfall_server::s3;
use landfall_server::{
    app, log,
    settings::{self, Failure, Invocation, Loaded, Options, Subcommand},
};

// glibc's allocator releases no memory below the highest object in use, so the process would keep the
// memory of a burst of connections.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match settings::read(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Invocation::Print(text)) => print(&text),
        Ok(Invocation::Run(loaded, options)) => run_command(*loaded, *options),
        Err(failure) => fail(&failure),
    }
}

fn run_command(loaded: Loaded, options: Options) -> ExitCode {
    match loaded.subcommand {
        Subcommand::Sweep => run(app::sweep(loaded, options.dry_run)),
        Subcommand::DoctorFiles => run(app::doctor_files(loaded)),
        #[cfg(feature = "s3")]
        Subcommand::DoctorS3 => run(s3::doctor::run(loaded, options.json, options.origins)),
        #[cfg(feature = "s3")]
        Subcommand::SetCors => run(s3::cors::set(loaded, options.origins, options.dry_run)),
        Subcommand::Events => run(app::events(loaded, options.events)),
        #[cfg(feature = "grants")]
        Subcommand::Keys => run(app::keys(loaded, options.keys, options.json)),
        Subcommand::Migrate => run(app::migrate(loaded)),
        Subcommand::Health => run(app::health(loaded, options.ready)),
        Subcommand::ConfigCheck => run(app::config_check(loaded, options.offline)),
        Subcommand::ConfigShow => run(app::config_show(loaded, options)),
        // The settings of a command that is not compiled in are rejected.
        _ => {
            let settings = &loaded.settings;
            log::init(&settings.log, settings.s3.log_api_calls);
            run(app::serve(loaded))
        }
    }
}

fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("landfall: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) => fail(failure),
            None => {
                eprintln!("landfall: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.exit_code())
}

/// A closed pipe, such as that of `head`, is no error.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
