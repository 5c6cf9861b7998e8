//! Every call that Landfall makes, once, on probes of its own.

use bytes::Bytes;
use landfall_s3::client::{Condition, ErrorKind, ObjectHead, ObjectHeaders, ObjectRef, Payload};

use super::{Examination, Finding, Mark, Need};
use crate::s3::{Advice, object_headers};

/// The least that every service takes for a part.
const PART: usize = 5 << 20;

/// Makes the calls. Returns whether objects can be written at all.
pub(super) async fn examine(x: &mut Examination<'_>) -> bool {
    let client = x.client.clone();
    let small = x.place("small");
    let none = ObjectHeaders::default();
    let payload = Payload::from(Bytes::from_static(b"landfall"));
    let put = client.put_object(&small, payload, &none, Condition::None);
    if x.call("put object", Need::Uploads, put).await.is_none() {
        // It was refused, so there is nothing to remove.
        x.objects.clear();
        return false;
    }
    let content = Bytes::from(vec![b'L'; PART]);
    let source = x.place("source");
    let payload = Payload::from(content.clone());
    let put = client.put_object(&source, payload, &none, Condition::None);
    if let Err(error) = put.await {
        let finding = x.failure("put 5 MiB", Need::Uploads, &error);
        x.note(finding);
        return true;
    }
    read(x, &source).await;
    multipart(x, &source, content).await;
    abort(x).await;
    let delete = client.delete_object(&source);
    if x.call("delete object", Need::Uploads, delete)
        .await
        .is_some()
    {
        gone(x, &source).await;
    }
    true
}

/// HEAD, GET and GET of a range.
async fn read(x: &mut Examination<'_>, source: &ObjectRef) {
    let client = x.client.clone();
    let head = x.call("head object", Need::Uploads, client.head_object(source));
    if let Some(head) = head.await {
        expect_size(x, "head object", &head, PART as u64);
    }
    let range = (PART as u64 - 4)..PART as u64;
    let get = async {
        client
            .get_object(source, Some(range))
            .await?
            .bytes(PART)
            .await
    };
    if let Some(bytes) = x.call("get object", Need::Uploads, get).await
        && bytes != "LLLL"
    {
        let text = format!(
            "4 bytes were asked for by Range, and {} others came",
            bytes.len()
        );
        x.note(Finding::new("get object", Mark::Fail, text));
    }
}

/// Notes an object that hasn't the size it was given.
fn expect_size(x: &mut Examination<'_>, check: &'static str, head: &ObjectHead, size: u64) {
    if head.size != size {
        let text = format!("the object should have {size} bytes and has {}", head.size);
        x.note(Finding::new(check, Mark::Fail, text));
    }
}

/// A multipart upload from beginning to end, of a copied and a sent part, with the headers that the
/// settings ask for.
async fn multipart(x: &mut Examination<'_>, source: &ObjectRef, content: Bytes) {
    let client = x.client.clone();
    let place = x.place("joined");
    let wanted = object_headers(&x.s3().headers);
    let begun = match client.create_multipart(&place, &wanted).await {
        Ok(id) => Ok(id),
        Err(error) if wanted != ObjectHeaders::default() => {
            let plain = client
                .create_multipart(&place, &ObjectHeaders::default())
                .await;
            if plain.is_ok() {
                let advice = Advice::new(&error, x.s3(), x.bucket);
                x.note(
                    Finding::new("object headers", Mark::Fail, advice.said).advise(
                        "the service doesn't take what --s3-acl, --s3-sse, --s3-storage-class, \
                         --s3-tags and the like ask for: allow it, or leave it out",
                    ),
                );
            }
            plain
        }
        Err(error) => Err(error),
    };
    let begin = async { begun };
    let Some(id) = x.call("create multipart", Need::Uploads, begin).await else {
        return;
    };
    x.multiparts.push((place.clone(), id.clone()));

    let copy = client.upload_part_copy(&place, &id, 1, source, None);
    let need = Need::Else("joining partial uploads won't work");
    let first = match x.call("upload part copy", need, copy).await {
        Some(etag) => Some(etag),
        // The rest can be looked at with a part that was sent.
        None => client
            .upload_part(&place, &id, 1, Payload::from(content))
            .await
            .ok(),
    };
    let end = Payload::from(Bytes::from_static(b"the end"));
    let send = client.upload_part(&place, &id, 2, end);
    let second = x.call("upload part", Need::Uploads, send).await;
    let list = client.list_parts(&place, &id, 0);
    let listed = x.call("list parts", Need::Uploads, list).await;
    let (Some(first), Some(second)) = (first, second) else {
        return;
    };
    if let Some(page) = listed {
        let found: Vec<(u32, u64)> = page.parts.iter().map(|p| (p.number, p.size)).collect();
        if found != [(1, PART as u64), (2, 7)] {
            let text = format!("two parts were sent, and these are listed: {found:?}");
            x.note(Finding::new("list parts", Mark::Fail, text));
        }
    }
    let parts = [(1, first), (2, second)];
    let complete = client.complete_multipart(&place, &id, &parts);
    if x.call("complete multipart", Need::Uploads, complete)
        .await
        .is_some()
        && let Ok(head) = client.head_object(&place).await
    {
        expect_size(x, "complete multipart", &head, PART as u64 + 7);
    }
}

/// A multipart upload that is listed and then dropped.
async fn abort(x: &mut Examination<'_>) {
    let client = x.client.clone();
    let Ok((place, id)) = x.begin("dropped").await else {
        return;
    };
    let stem = x.stem.clone();
    let list = client.list_multiparts(x.bucket, &stem, None, 100);
    let need = Need::Else("multipart uploads that a crash left can't be found by the sweeper");
    if let Some(page) = x.call("list multiparts", need, list).await
        && !page.uploads.iter().any(|one| one.upload_id == id)
    {
        let text = "one that was just begun isn't listed: the sweeper finds none either";
        x.note(Finding::new("list multiparts", Mark::Warn, text));
    }
    let abort = client.abort_multipart(&place, &id);
    if x.call("abort multipart", Need::Uploads, abort)
        .await
        .is_none()
    {
        return;
    }
    match client.list_parts(&place, &id, 0).await {
        Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {}
        Err(error) => {
            let finding = x.failure("abort multipart", Need::Uploads, &error);
            x.note(finding);
        }
        Ok(_) => {
            let text = "one that was aborted is still there";
            x.note(Finding::new("abort multipart", Mark::Warn, text));
        }
    }
}

/// How the service speaks of objects that aren't there.
async fn gone(x: &mut Examination<'_>, place: &ObjectRef) {
    match x.client.head_object(place).await {
        Err(error) if *error.kind() == ErrorKind::NoSuchKey => {}
        Err(error) if *error.kind() == ErrorKind::AccessDenied => {
            x.note(Finding::new(
                "missing objects",
                Mark::Note,
                "the service denies access instead of saying that there is none, as Amazon does \
                 without s3:ListBucket; Landfall takes that for missing, too",
            ));
        }
        Err(error) => {
            let finding = x.failure("missing objects", Need::Uploads, &error);
            x.note(finding);
        }
        Ok(_) => {
            let text = "an object that was deleted is still there; wait for it, or see whether \
                        the bucket keeps it by a lock";
            x.note(Finding::new("delete object", Mark::Warn, text));
        }
    }
}
