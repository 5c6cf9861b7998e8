//! Digests (RFC 9530), where the server verifies them.

use super::append::first_part;
use super::draft_checks;
use super::requests::Draft;
use crate::client::Response;
use crate::dialect::fields::{digest_field, expect_digest};
use crate::requirement::{CheckResult, ensure, skip};

const CONTENT_DIGEST: &str = "RFC 9530, 2 The Content-Digest Field";
const REPR_DIGEST: &str = "RFC 9530, 3 The Repr-Digest Field";
const PREFERENCE: &str = "RFC 9530, 4 Integrity Preference Fields";

/// No algorithm has this name.
const UNKNOWN: &str = "unknown=:AAAA:";

draft_checks! {
    Must "draft/digests/right-content-digest", CONTENT_DIGEST,
        "An append with the right Content-Digest succeeds." => right_content_digest;
    May "draft/digests/wrong-content-digest", CONTENT_DIGEST,
        "An append with a wrong Content-Digest is rejected, and the offset stays." => wrong_content_digest;
    May "draft/digests/resumed-after-a-wrong-content-digest", CONTENT_DIGEST,
        "After a wrong Content-Digest, the right bytes can be sent." => resumed;
    Should "draft/digests/unknown-algorithm-of-content", CONTENT_DIGEST,
        "A Content-Digest of an unknown algorithm alone is ignored." => unknown_content_algorithm;
    Must "draft/digests/right-repr-digest", REPR_DIGEST,
        "A whole upload with the right Repr-Digest succeeds." => right_repr_digest;
    Must "draft/digests/right-repr-digest-of-parts", REPR_DIGEST,
        "An upload in parts whose creation had the right Repr-Digest succeeds." => right_repr_digest_of_parts;
    May "draft/digests/wrong-repr-digest", REPR_DIGEST,
        "A whole upload with a wrong Repr-Digest is rejected." => wrong_repr_digest;
    May "draft/digests/wrong-repr-digest-of-parts", REPR_DIGEST,
        "The last append to an upload whose creation had a wrong Repr-Digest is rejected." => wrong_repr_digest_of_parts;
    Should "draft/digests/unknown-algorithm-of-whole", REPR_DIGEST,
        "A Repr-Digest of an unknown algorithm alone is ignored." => unknown_repr_algorithm;
    May "draft/digests/wanted-digest", PREFERENCE,
        "A client that sends Want-Repr-Digest gets the Repr-Digest of the whole." => wanted;
    Must "draft/digests/reported-digest-is-right", REPR_DIGEST,
        "A Repr-Digest in the final response is that of the bytes that were sent." => reported_is_right;
}

async fn right_content_digest(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_for(&data).await?;
    let part = &data[..unit];
    let request = d.append(&url, 0, part, false);
    let request = request.field("Content-Digest", digest_field(part)?);
    d.send(request).await?.expect_success()?;
    d.expect_offset(&url, unit).await
}

fn not_verified(name: &str) -> CheckResult {
    skip(format!("the server does not verify {name}"))
}

/// Fails unless a wrong digest is rejected; skips the check if the request succeeds.
fn expect_verified(response: &Response, name: &str) -> CheckResult {
    if response.is_success() {
        return not_verified(name);
    }
    response.expect_rejection()
}

async fn wrong_content_digest(d: &Draft<'_>) -> CheckResult {
    let (url, request) = first_part(d).await?;
    let request = request.field("Content-Digest", digest_field(b"other")?);
    let response = d.send(request).await?;
    expect_verified(&response, "Content-Digest")?;
    d.expect_offset(&url, 0).await
}

async fn resumed(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(2)?, d.unit());
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, &vec![0; unit], false);
    let request = request.field("Content-Digest", digest_field(&data[..unit])?);
    if d.send(request).await?.is_success() {
        return not_verified("Content-Digest");
    }
    d.resume(&url, &data).await
}

async fn unknown_content_algorithm(d: &Draft<'_>) -> CheckResult {
    let (_, request) = first_part(d).await?;
    let response = d.send(request.field("Content-Digest", UNKNOWN)).await?;
    response.expect_success()
}

async fn right_repr_digest(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(&data, true);
    let request = request.field("Repr-Digest", digest_field(&data)?);
    d.send(request).await?.expect_success()
}

async fn right_repr_digest_of_parts(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_with(&data, d.unit()).await?;
    d.resume(&url, &data).await
}

async fn wrong_repr_digest(d: &Draft<'_>) -> CheckResult {
    let request = d.creation(&d.data(2)?, true);
    let request = request.field("Repr-Digest", digest_field(b"other")?);
    let response = d.send(request).await?;
    expect_verified(&response, "Repr-Digest")
}

async fn wrong_repr_digest_of_parts(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(b"", false).field("Upload-Length", data.len());
    let request = request.field("Repr-Digest", digest_field(b"other")?);
    let url = d.created(request).await?;
    let response = d.send(d.append(&url, 0, &data, true)).await?;
    expect_verified(&response, "Repr-Digest")
}

async fn unknown_repr_algorithm(d: &Draft<'_>) -> CheckResult {
    let request = d.creation(&d.data(2)?, true);
    let response = d.send(request.field("Repr-Digest", UNKNOWN)).await?;
    response.expect_success()
}

async fn wanted(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(&data, true);
    let request = request.field("Want-Repr-Digest", "sha-256=10");
    let response = d.send(request).await?.success()?;
    if response.field("Repr-Digest").is_none() {
        return skip("the server sends no Repr-Digest");
    }
    let has_algorithm = expect_digest(&response, &data)?;
    ensure!(has_algorithm, "Repr-Digest has no sha-256")
}

async fn reported_is_right(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let request = d.append(&url, unit, &data[unit..], true);
    let request = request.field("Want-Repr-Digest", "sha-256=10");
    let response = d.send(request).await?.success()?;
    if !expect_digest(&response, &data)? {
        return skip("the server sends no Repr-Digest of sha-256");
    }
    Ok(())
}
