//! In what this service differs from others, and how Landfall copes.

use bytes::Bytes;
use landfall_s3::client::{Condition, Error, ErrorKind, ObjectHeaders, Payload};

use super::{Examination, Finding, Mark};
use crate::{s3::advice, settings::LeaseKind};

/// Looks at each difference that is known of.
pub(super) async fn examine(x: &mut Examination<'_>) {
    conditions(x).await;
    small_parts(x).await;
    empty_part(x).await;
    small_copy(x).await;
    put_over(x).await;
}

/// Notes a difference; a failure for another reason is told as one.
fn note(
    x: &mut Examination<'_>,
    check: &'static str,
    came: Result<bool, Error>,
    yes: &'static str,
    no: &'static str,
) {
    let finding = match came {
        Ok(true) => Finding::new(check, Mark::Note, yes),
        Ok(false) => Finding::new(check, Mark::Note, no),
        Err(error) => Finding::new(
            check,
            Mark::Note,
            format!("can't be told: {}", advice::said(&error)),
        ),
    };
    x.note(finding);
}

/// A call that the service may refuse: whether it took it, unless it failed for a reason that says
/// nothing about that.
fn taken<T>(came: Result<T, Error>) -> Result<bool, Error> {
    match came {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::Unavailable { .. } | ErrorKind::BadCredentials | ErrorKind::ClockSkew => {
                Err(error)
            }
            _ => Ok(false),
        },
    }
}

/// Writes that only happen if nothing, or the right thing, is there: what leases in the bucket rest
/// on.
async fn conditions(x: &mut Examination<'_>) {
    let client = x.client.clone();
    let place = x.place("condition");
    let none = ObjectHeaders::default();
    let put = |text: &'static str, condition| {
        let payload = Payload::from(Bytes::from_static(text.as_bytes()));
        client.put_object(&place, payload, &none, condition)
    };
    let examined: Result<&str, Error> = async {
        let first = put("1", Condition::IfAbsent).await?;
        if !refused(put("2", Condition::IfAbsent).await)? {
            return Ok("If-None-Match is ignored");
        }
        let second = put("3", Condition::IfMatch(first.clone())).await?;
        if !refused(put("4", Condition::IfMatch(first)).await)? {
            return Ok("If-Match is ignored");
        }
        put("5", Condition::IfMatch(second)).await?;
        Ok("")
    }
    .await;
    let needed = matches!(x.settings.leases.kind, LeaseKind::Store);
    let (works, text) = match &examined {
        Ok("") => (true, "work, so leases may be kept in the bucket".to_owned()),
        Ok(what) => (false, (*what).to_owned()),
        Err(error) => (false, advice::said(error)),
    };
    let finding = match (works, needed) {
        (true, _) => Finding::new("conditional writes", Mark::Ok, text),
        (false, true) => Finding::new("conditional writes", Mark::Fail, text).advise(
            "-lease store can't work here: use --lease redis://… or --lease postgres://…, or a single server with --lease \
             memory",
        ),
        (false, false) => Finding::new("conditional writes", Mark::Note, text)
            .advise("several servers on this bucket need --lease redis://… or --lease postgres://…"),
    };
    x.note(finding);
}

/// Whether a condition kept a write from happening.
fn refused(came: Result<String, Error>) -> Result<bool, Error> {
    match came {
        Ok(_) => Ok(false),
        Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(true),
        Err(error) => Err(error),
    }
}

/// Parts below 5 MiB that aren't the last.
async fn small_parts(x: &mut Examination<'_>) {
    let client = x.client.clone();
    let came = async {
        let (place, id) = x.begin("small-parts").await?;
        let mut parts = Vec::new();
        for number in [1, 2] {
            let payload = Payload::from(Bytes::from_static(b"short"));
            match client.upload_part(&place, &id, number, payload).await {
                Ok(etag) => parts.push((number, etag)),
                Err(error) => return taken::<()>(Err(error)),
            }
        }
        taken(client.complete_multipart(&place, &id, &parts).await)
    }
    .await;
    note(
        x,
        "short parts",
        came,
        "are taken, unlike by Amazon; Landfall makes none",
        "are refused below 5 MiB, as by Amazon: what is shorter waits in an object beside (.part)",
    );
}

/// A part without bytes.
async fn empty_part(x: &mut Examination<'_>) {
    let client = x.client.clone();
    let came = async {
        let (place, id) = x.begin("empty-part").await?;
        match client.upload_part(&place, &id, 1, Payload::default()).await {
            Ok(etag) => taken(client.complete_multipart(&place, &id, &[(1, etag)]).await),
            Err(error) => taken::<()>(Err(error)),
        }
    }
    .await;
    note(
        x,
        "empty parts",
        came,
        "are taken, as by Amazon",
        "are refused: uploads without bytes are written in one call instead",
    );
}

/// A part copied from a short object.
async fn small_copy(x: &mut Examination<'_>) {
    let client = x.client.clone();
    let came = async {
        let source = x.place("short");
        let payload = Payload::from(Bytes::from_static(b"short"));
        client
            .put_object(&source, payload, &ObjectHeaders::default(), Condition::None)
            .await?;
        let (place, id) = x.begin("short-copy").await?;
        match client.upload_part_copy(&place, &id, 1, &source, None).await {
            Ok(etag) => taken(client.complete_multipart(&place, &id, &[(1, etag)]).await),
            Err(error) => taken::<()>(Err(error)),
        }
    }
    .await;
    note(
        x,
        "copies of short ones",
        came,
        "are taken, as by Amazon",
        "are refused: short partial uploads are joined by reading and sending them",
    );
}

/// An object written at the key of a multipart upload that isn't finished.
async fn put_over(x: &mut Examination<'_>) {
    let client = x.client.clone();
    let came = async {
        let (place, id) = x.begin("put-over").await?;
        let payload = Payload::from(Bytes::from_static(b"over"));
        client
            .put_object(&place, payload, &ObjectHeaders::default(), Condition::None)
            .await?;
        match client.list_parts(&place, &id, 0).await {
            Ok(_) => Ok(true),
            Err(error) if *error.kind() == ErrorKind::NoSuchUpload => Ok(false),
            Err(error) => Err(error),
        }
    }
    .await;
    note(
        x,
        "writing over",
        came,
        "an object at a key keeps the multipart upload that is pending there, as at Amazon",
        "an object at a key drops the multipart upload that is pending there; Landfall writes none",
    );
}
