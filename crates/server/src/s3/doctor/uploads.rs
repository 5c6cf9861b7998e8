use landfall::store::Store as _;
use landfall_s3::S3Store;

use super::{Doctor, Finding};
use crate::app;

/// Each costs several calls.
const MAX_EXAMINED: u64 = 10_000;

pub(super) async fn run(doctor: &mut Doctor<'_>) {
    let options = app::s3_options(doctor.settings, doctor.bucket);
    let Ok(store) = S3Store::new(doctor.client.clone(), options) else {
        return;
    };
    let Some(enumerator) = store.capabilities().enumerator else {
        return;
    };
    let mut findings = Vec::new();
    let found = app::find_damaged(enumerator, MAX_EXAMINED, |finding| findings.push(finding)).await;
    for finding in findings {
        doctor.report(finding);
    }
    if let Err(error) = found {
        let text = format!("uploads cannot be listed: {error}");
        doctor.report(Finding::warn("uploads", text));
    }
}
