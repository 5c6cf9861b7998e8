//! Finds damaged uploads, kept orphans and uploads that are not served.
//!
//! For `landfall doctor files`, and `landfall doctor s3` in a bucket. Removes and repairs nothing. Entries are read in
//! pages of `PAGE_SIZE`, and at most `MAX_FINDINGS` are reported.

use std::{process::ExitCode, sync::atomic::Ordering};

use landfall::{
    store::{
        Enumerate, OrphanKind, Page, StoreError,
        file::{FileOptions, FileStore},
    },
    upload::UploadId,
};

use landfall_console::{Finding, Progress, Severity};

use crate::{condition::ConditionKind, settings::Loaded};

const PAGE_SIZE: usize = 256;
const MAX_FINDINGS: u64 = 1000;

/// `landfall doctor files`: lists damaged uploads in the upload directory, without changing anything.
///
/// # Errors
/// The directory cannot be listed.
pub async fn doctor_files(mut loaded: Loaded) -> anyhow::Result<ExitCode> {
    let checked = loaded.check_system().await;
    loaded.print_warnings();
    checked?;
    let dir = &loaded.settings.storage.upload_dir;
    let shown = dir.display();
    anyhow::ensure!(dir.is_dir(), "there is no upload directory {shown}");
    let mut options = FileOptions::default();
    options
        .data_dirs
        .clone_from(&loaded.settings.storage.data_dirs);
    let store = FileStore::open(dir, options)?;
    let mut warnings = 0;
    let progress = Progress::new("checking uploads");
    let find = find_damaged(&store, u64::MAX, &progress, |finding| {
        warnings += u64::from(finding.severity == Severity::Warn);
        progress.suspend(|| println!("{finding}"));
    });
    progress.show_during(find).await?;
    match warnings {
        0 => println!("no problems found"),
        warnings => println!("uploads will work; {warnings} to check"),
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn find_damaged(
    enumerator: &dyn Enumerate,
    max: u64,
    progress: &Progress,
    mut report: impl FnMut(Finding),
) -> Result<(), StoreError> {
    let (mut examined, mut damaged, mut cursor) = (0, 0, None);
    loop {
        let page = enumerator.page(cursor, PAGE_SIZE).await?;
        let unloaded = page.damaged.len() + page.orphans.len() + page.unserved.len();
        examined += (page.uploads.len() + unloaded) as u64;
        progress.examined.store(examined, Ordering::Relaxed);
        for finding in findings(&page) {
            damaged += 1;
            if damaged <= MAX_FINDINGS {
                report(finding);
            }
        }
        cursor = page.next;
        if cursor.is_none() || examined >= max {
            break;
        }
    }
    let part = if cursor.is_some() { ", not all" } else { "" };
    let (severity, result) = match damaged {
        0 => (Severity::Ok, "none is damaged".to_owned()),
        damaged => (Severity::Note, format!("{damaged} to check")),
    };
    let text = format!("{examined} examined{part}; {result}");
    report(Finding::new("uploads", severity, text));
    Ok(())
}

fn findings(page: &Page) -> Vec<Finding> {
    let date = httpdate::fmt_http_date;
    let damaged = page.damaged.iter().map(|damaged| {
        let (id, size, since) = (&damaged.id, damaged.size, date(damaged.modified));
        let reason = &damaged.reason;
        let text = format!("{id}: {reason}; {size} bytes, last changed {since}; never removed");
        Finding::warn("damaged upload", text)
            .advise("restore its description, or remove it with DELETE")
    });
    let kept = page
        .orphans
        .iter()
        .filter(|orphan| orphan.kind == OrphanKind::Unproven);
    let kept = kept.map(|orphan| {
        let id = orphan.id.as_ref().map(UploadId::as_str);
        let (name, reason) = (&orphan.name, orphan.reason);
        let owner = id.map_or_else(String::new, |id| format!(" of upload {id}"));
        let size = orphan.size;
        let text = format!("{name}: {reason}{owner}, {size} bytes; never removed");
        Finding::info("orphan", text)
    });
    let unserved = page.unserved.iter().map(|unserved| {
        let detail = format!("{}: {}", unserved.name, unserved.reason);
        ConditionKind::UploadNotServed.finding("upload not served", &detail)
    });
    damaged.chain(kept).chain(unserved).collect()
}
