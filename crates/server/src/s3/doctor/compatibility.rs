use bytes::Bytes;
use landfall_s3::{
    client::{Error, ErrorKind, Payload},
    lease::probe_conditional_writes,
};

use super::{Doctor, Finding};
use crate::{s3::diagnosis, settings::LeaseKind};

pub(super) async fn run(doctor: &mut Doctor<'_>) {
    conditions(doctor).await;
    let short_parts = small_parts(doctor).await;
    let empty_parts = empty_part(doctor).await;
    let short_copies = small_copy(doctor).await;
    let put = put_during_multipart(doctor).await;
    for (check, result, accepted, rejected) in [
        (
            "short parts",
            short_parts,
            "are accepted, unlike by Amazon; Landfall uploads none",
            "are rejected below 5 MiB, as by Amazon: shorter rests are stored in a .part object",
        ),
        (
            "empty parts",
            empty_parts,
            "are accepted, as by Amazon",
            "are rejected: empty uploads are written with one PUT instead",
        ),
        (
            "short part copies",
            short_copies,
            "are accepted, as by Amazon",
            "are rejected: short partial uploads are concatenated by reading and uploading them",
        ),
        (
            "PUT over multipart",
            put,
            "a PUT keeps the pending multipart upload of its key, as at Amazon",
            "a PUT aborts the pending multipart upload of its key; Landfall makes none",
        ),
    ] {
        let text = match result {
            Ok(true) => accepted.to_owned(),
            Ok(false) => rejected.to_owned(),
            Err(error) => format!("not detected: {}", diagnosis::error_line(&error)),
        };
        doctor.report(Finding::info(check, text));
    }
}

async fn accepted<T>(call: impl Future<Output = Result<T, Error>>) -> Result<bool, Error> {
    use ErrorKind::{BadCredentials, ClockSkew, Unavailable};
    match call.await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            Unavailable { .. } | BadCredentials | ClockSkew => Err(error),
            _ => Ok(false),
        },
    }
}

/// Leases in the bucket require both, and direct uploads that are written once the first.
async fn conditions(doctor: &mut Doctor<'_>) {
    let prefix = &doctor.s3().object_prefix;
    let honored = probe_conditional_writes(&doctor.client, doctor.bucket, prefix).await;
    let needed = matches!(doctor.settings.leases.kind, LeaseKind::Store);
    let (works, text) = match honored {
        Ok(honored) => {
            let word = |honored| if honored { "works" } else { "is ignored" };
            let text = format!(
                "If-None-Match {}, If-Match {}",
                word(honored.if_absent),
                word(honored.if_match)
            );
            (honored.all(), text)
        }
        Err(error) => (false, diagnosis::error_line(&error)),
    };
    let finding = match (works, needed) {
        (true, _) => Finding::ok("conditional writes", text)
            .advise("leases can be stored in the bucket (--lease store)"),
        (false, true) => Finding::fail("conditional writes", text).advise(
            "--lease store cannot work here: use --lease redis://… or --lease postgres://…, or a \
             single node with --lease memory",
        ),
        (false, false) => Finding::info("conditional writes", text).advise(
            "several servers on this bucket need --lease redis://… or --lease postgres://…",
        ),
    };
    doctor.report(finding);
}

/// Parts below 5 MiB that are not the last.
async fn small_parts(doctor: &mut Doctor<'_>) -> Result<bool, Error> {
    let client = doctor.client.clone();
    let (object, id) = doctor.begin("small-parts").await?;
    accepted(async {
        let mut parts = Vec::new();
        for number in [1, 2] {
            let payload = Payload::from(Bytes::from_static(b"short"));
            let etag = client.upload_part(&object, &id, number, payload).await?;
            parts.push((number, etag));
        }
        client.complete_multipart(&object, &id, &parts).await
    })
    .await
}

async fn empty_part(doctor: &mut Doctor<'_>) -> Result<bool, Error> {
    let client = doctor.client.clone();
    let (object, id) = doctor.begin("empty-part").await?;
    accepted(async {
        let part = client.upload_part(&object, &id, 1, Payload::default());
        let etag = part.await?;
        client.complete_multipart(&object, &id, &[(1, etag)]).await
    })
    .await
}

async fn small_copy(doctor: &mut Doctor<'_>) -> Result<bool, Error> {
    let client = doctor.client.clone();
    let source = doctor.object("short");
    doctor.write(&source, Bytes::from_static(b"short")).await?;
    let (object, id) = doctor.begin("short-copy").await?;
    accepted(async {
        let copy = client.upload_part_copy(&object, &id, 1, &source, None);
        let etag = copy.await?;
        client.complete_multipart(&object, &id, &[(1, etag)]).await
    })
    .await
}

/// A PUT at the key of an incomplete multipart upload.
async fn put_during_multipart(doctor: &mut Doctor<'_>) -> Result<bool, Error> {
    let client = doctor.client.clone();
    let (object, id) = doctor.begin("put-over").await?;
    doctor.write(&object, Bytes::from_static(b"over")).await?;
    match client.list_parts(&object, &id, 0).await {
        Ok(_) => Ok(true),
        Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(false),
        Err(error) => Err(error),
    }
}
