//! Which uploads in the bucket are damaged.

use landfall::store::Store as _;
use landfall_s3::S3Store;

use super::{Examination, Finding, Mark};
use crate::app;

/// How many uploads are examined: each costs some calls.
const MAX_EXAMINED: u64 = 10_000;

/// Lists damaged uploads. Changes nothing of them.
pub(super) async fn examine(x: &mut Examination<'_>) {
    let options = app::s3_options(x.settings, x.bucket);
    let Ok(store) = S3Store::new(x.client.clone(), options) else {
        return;
    };
    let Some(enumerator) = store.enumerator() else {
        return;
    };
    let mut findings = Vec::new();
    let found = app::find_damaged(enumerator, MAX_EXAMINED, |finding| findings.push(finding)).await;
    for finding in findings {
        x.note(finding);
    }
    if let Err(error) = found {
        let text = format!("they cannot be listed: {error}");
        x.note(Finding::new("uploads", Mark::Warn, text));
    }
}
