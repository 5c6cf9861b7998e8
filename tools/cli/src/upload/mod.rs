//! The command `upload`.

mod arguments;
mod file;
mod run_record;
mod target;
mod unfinished;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ArgMatches;
use futures_util::{StreamExt as _, stream};
use landfall_client::Url;

pub(crate) use self::arguments::command;
use self::{
    arguments::Options,
    file::{FileResult, UploadContext},
    run_record::RunRecord,
};
use crate::{
    arguments::{all, client, is_set, report, value},
    exit::{Failure, FailureClass},
    interrupt::Interrupt,
    selection::{SelectedFile, Selection, select},
    state,
};

/// Runs the command. Returns the exit code of the uploads.
pub(crate) async fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let report = report(matches, "uploaded");
    let mut builder = client(matches)?.protocol(arguments::protocol(matches));
    match state::fingerprints() {
        Some(store) => builder = builder.fingerprints(store).forget_finished(),
        None => report.message("HOME is not set, so another run cannot resume these uploads"),
    }
    let client = builder.build()?;
    if is_set(matches, "list") {
        return unfinished::list(&client, &report, is_set(matches, "json")).await;
    }
    let abandoned: Vec<PathBuf> = all(matches, "abort");
    if !abandoned.is_empty() {
        return unfinished::abort(&client, &report, &abandoned).await;
    }

    let options = Options::from_matches(matches)?;
    let (paths, endpoint) = targets(all(matches, "targets"), options.url.as_ref())?;
    let interrupt = Interrupt::install()?;
    // The upload of --url exists: it needs no grant.
    let (endpoint, grants) = match options.url {
        Some(_) => (endpoint, None),
        None => target::find(matches, &client, endpoint).await?,
    };
    let context = UploadContext::new(client, endpoint, grants, options, report, interrupt);
    match paths.as_slice() {
        [path] if path == Path::new("-") => {
            context.report.expect(1, context.options.size);
            let result = context.upload_stdin().await;
            Ok(finish(&context, &[result]))
        }
        paths if paths.iter().any(|path| path == Path::new("-")) => Err(Failure::usage(
            "standard input (-) cannot be combined with files; upload it alone",
        )),
        paths => upload_files(&context, paths).await,
    }
}

/// Splits the arguments into the files and the URL of the server, which is the last.
fn targets(mut paths: Vec<PathBuf>, upload: Option<&Url>) -> Result<(Vec<PathBuf>, Url), Failure> {
    let endpoint = match upload {
        // It exists: nothing is created.
        Some(url) => url.clone(),
        None => {
            let last = paths.pop().unwrap_or_default();
            let last = last.to_string_lossy();
            value::url(&last).map_err(|reason| match reason.contains("no scheme") {
                true => Failure::usage(reason),
                false => Failure::usage(format!(
                    "{last:?} is not the URL of a server; write it as the last argument, such as \
                     http://localhost:8080/files/"
                )),
            })?
        }
    };
    match paths.is_empty() {
        true => Err(Failure::usage(
            "no file is named; write its path before the URL, or - for standard input",
        )),
        false => Ok((paths, endpoint)),
    }
}

async fn upload_files(context: &UploadContext, paths: &[PathBuf]) -> Result<ExitCode, Failure> {
    let options = &context.options;
    let Selection {
        files,
        failures,
        skipped,
    } = select(paths, options.follow);
    let selected = files.len() + failures.len();
    if selected != 1 && (options.url.is_some() || options.name.is_some()) {
        return Err(Failure::usage(format!(
            "--url and --name are for one file, and the arguments select {selected}"
        )));
    }
    let report = &context.report;
    if selected == 0 {
        report.message("nothing to upload: the folders have no files");
    }
    report.expect(
        selected,
        Some(files.iter().map(|file| file.version.length).sum()),
    );
    if skipped > 0 {
        report.message(&format!(
            "skipped {skipped} symbolic links or special files; --follow includes links to files"
        ));
    }
    let mut results = Vec::with_capacity(selected);
    for failure in failures {
        report.fail(&failure, None);
        results.push(FileResult::Failed(FailureClass::Failed));
    }

    // A single upload resumes by its fingerprint alone.
    let mut record = match files.len() > 1 && !options.create_only {
        true => open_run_record(context, paths),
        false => None,
    };
    let is_new = |file: &SelectedFile| {
        let stored = record.as_ref().and_then(|record| record.url(file));
        if let Some(url) = stored {
            report.skip(&file.name(), url, file.version.length);
        }
        stored.is_none()
    };
    let files: Vec<_> = files.into_iter().filter(is_new).collect();
    let mut uploads = stream::iter(&files)
        .map(|file| async move { (file, context.upload_file(file).await) })
        .buffer_unordered(options.parallel);
    while let Some((file, result)) = uploads.next().await {
        if let (FileResult::Uploaded { url, version }, Some(stored)) = (&result, &mut record)
            && let Err(error) = stored.add(file, *version, url)
        {
            report.message(&format!("failed to record finished uploads: {error}"));
            record = None;
        }
        results.push(result);
    }
    let is_complete = |result: &FileResult| matches!(result, FileResult::Uploaded { .. });
    if let Some(record) = record.filter(|_| results.iter().all(is_complete)) {
        record.remove();
    }
    Ok(finish(context, &results))
}

fn open_run_record(context: &UploadContext, paths: &[PathBuf]) -> Option<RunRecord> {
    let directory = state::directory()?.join("runs");
    let (endpoint, resume) = (context.endpoint.as_str(), context.options.resume);
    match RunRecord::open(&directory, endpoint, paths, resume) {
        Ok(record) => Some(record),
        Err(error) => {
            let directory = directory.display();
            context
                .report
                .message(&format!("failed to read {directory}: {error}"));
            None
        }
    }
}

/// Prints the summary. Returns the exit code.
fn finish(context: &UploadContext, results: &[FileResult]) -> ExitCode {
    let report = &context.report;
    report.finish();
    let not_started = results.iter();
    let not_started = not_started.filter(|result| matches!(result, FileResult::NotStarted));
    let not_started = not_started.count();
    let classes = results.iter().filter_map(FileResult::class);
    let class = classes.max();
    if class == Some(FailureClass::Interrupted) {
        report.message(match context.has_stream.get() {
            true => "interrupted; standard input cannot be uploaded by another run",
            false => "interrupted; run the same command again to resume",
        });
    } else if let Some(remedy) = context.remedy.get().filter(|_| not_started > 0) {
        report.message(&format!(
            "{not_started} files were not started; {remedy} to upload them"
        ));
    }
    class.map_or(ExitCode::SUCCESS, FailureClass::exit_code)
}
