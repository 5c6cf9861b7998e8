use bytes::Bytes;
use landfall_s3::{
    client::{Condition, ErrorKind, ObjectHead, ObjectHeaders, ObjectRef, Payload},
    lease::keeps_prefix,
};

use super::{Doctor, Finding};
use crate::s3::{Diagnosis, is_odd_prefix, object_headers};

const PART: usize = 5 << 20;

pub(super) async fn run(doctor: &mut Doctor<'_>) -> bool {
    let client = doctor.client.clone();
    let small = doctor.object("small");
    let none = ObjectHeaders::default();
    let payload = Payload::from(Bytes::from_static(b"landfall"));
    let put = client.put_object(&small, payload, &none, Condition::None);
    if doctor.call("put object", put).await.is_none() {
        // The call was denied, so there is nothing to remove.
        doctor.objects.clear();
        return false;
    }
    prefix(doctor).await;
    let content = Bytes::from(vec![b'L'; PART]);
    let source = doctor.object("source");
    if let Err(error) = doctor.write(&source, content.clone()).await {
        doctor.report_failure("put 5 MiB", &error);
        return true;
    }
    read(doctor, &source).await;
    multipart(doctor, &source, content).await;
    abort(doctor).await;
    let delete = client.delete_object(&source);
    if doctor.call("delete object", delete).await.is_some() {
        missing_object(doctor, &source).await;
    }
    true
}

async fn prefix(doctor: &mut Doctor<'_>) {
    let prefix = &doctor.s3().object_prefix;
    if !is_odd_prefix(prefix) {
        return;
    }
    if let Ok(false) = keeps_prefix(&doctor.client, doctor.bucket, prefix).await {
        let text = format!("the service changes keys that begin with {prefix}");
        let advice = "leave out the slash at the beginning of --s3-object-prefix";
        doctor.report(Finding::fail("prefix", text).advise(advice));
    }
}

async fn read(doctor: &mut Doctor<'_>, source: &ObjectRef) {
    let client = doctor.client.clone();
    let head = doctor.call("head object", client.head_object(source));
    if let Some(head) = head.await {
        expect_size(doctor, "head object", &head, PART as u64);
    }
    let range = (PART as u64 - 4)..PART as u64;
    let get = async {
        let object = client.get_object(source, Some(range)).await?;
        object.bytes(PART).await
    };
    if let Some(bytes) = doctor.call("get object", get).await
        && bytes != "LLLL"
    {
        let count = bytes.len();
        let text = format!("requested 4 bytes by Range, received {count} others");
        doctor.report(Finding::fail("get object", text));
    }
}

fn expect_size(doctor: &mut Doctor<'_>, check: &'static str, head: &ObjectHead, size: u64) {
    if head.size != size {
        let text = format!("the object should have {size} bytes and has {}", head.size);
        doctor.report(Finding::fail(check, text));
    }
}

async fn multipart(doctor: &mut Doctor<'_>, source: &ObjectRef, content: Bytes) {
    let client = doctor.client.clone();
    let object = doctor.object("concatenated");
    let headers = object_headers(&doctor.s3().headers);
    let none = ObjectHeaders::default();
    let started = match client.create_multipart(&object, &headers).await {
        Err(error) if headers != none => {
            let without_headers = client.create_multipart(&object, &none).await;
            if without_headers.is_ok() {
                let diagnosis = Diagnosis::new(&error, doctor.s3(), doctor.bucket);
                let finding = Finding::fail("object headers", diagnosis.response);
                doctor.report(finding.advise(
                    "the service rejects --s3-acl, --s3-sse, --s3-storage-class, --s3-tags or another \
                     header: permit it, or remove the setting",
                ));
            }
            without_headers
        }
        result => result,
    };
    let begin = async { started };
    let Some(id) = doctor.call("create multipart", begin).await else {
        return;
    };
    doctor.multiparts.push((object.clone(), id.clone()));

    let copy = client.upload_part_copy(&object, &id, 1, source, None);
    let missing = "concatenation of partial uploads will not work";
    let copied = doctor.optional_call("upload part copy", missing, copy);
    let first = match copied.await {
        Some(etag) => Some(etag),
        None => {
            let part = client.upload_part(&object, &id, 1, Payload::from(content));
            part.await.ok()
        }
    };
    let end = Payload::from(Bytes::from_static(b"the end"));
    let send = client.upload_part(&object, &id, 2, end);
    let second = doctor.call("upload part", send).await;
    let list = client.list_parts(&object, &id, 0);
    let listed = doctor.call("list parts", list).await;
    let (Some(first), Some(second)) = (first, second) else {
        return;
    };
    if let Some(page) = listed {
        let found: Vec<(u32, u64)> = page.parts.iter().map(|p| (p.number, p.size)).collect();
        if found != [(1, PART as u64), (2, 7)] {
            let text = format!("two parts were uploaded, but these are listed: {found:?}");
            doctor.report(Finding::fail("list parts", text));
        }
    }
    let parts = [(1, first), (2, second)];
    let complete = client.complete_multipart(&object, &id, &parts);
    if doctor.call("complete multipart", complete).await.is_some()
        && let Ok(head) = client.head_object(&object).await
    {
        expect_size(doctor, "complete multipart", &head, PART as u64 + 7);
    }
}

async fn abort(doctor: &mut Doctor<'_>) {
    let client = doctor.client.clone();
    let Ok((object, id)) = doctor.begin("aborted").await else {
        return;
    };
    let key_prefix = doctor.key_prefix.clone();
    let list = client.list_multiparts(doctor.bucket, &key_prefix, None, 100);
    let missing = "the sweeper cannot find multipart uploads left by a crash";
    if let Some(page) = doctor.optional_call("list multiparts", missing, list).await
        && !page.uploads.iter().any(|one| one.upload_id == id)
    {
        let text = "one that was just started isn't listed: the sweeper finds none either";
        doctor.report(Finding::warn("list multiparts", text));
    }
    let abort = client.abort_multipart(&object, &id);
    if doctor.call("abort multipart", abort).await.is_none() {
        return;
    }
    match client.list_parts(&object, &id, 0).await {
        Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {}
        Err(error) => doctor.report_failure("abort multipart", &error),
        Ok(_) => {
            let text = "one that was aborted is still there";
            doctor.report(Finding::warn("abort multipart", text));
        }
    }
}

async fn missing_object(doctor: &mut Doctor<'_>, object: &ObjectRef) {
    match doctor.client.head_object(object).await {
        Err(error) if *error.kind() == ErrorKind::NoSuchKey => {}
        Err(error) if *error.kind() == ErrorKind::AccessDenied => {
            let text = "the service denies access to missing objects, as Amazon does without \
                        s3:ListBucket; Landfall treats them as missing";
            doctor.report(Finding::info("missing objects", text));
        }
        Err(error) => doctor.report_failure("missing objects", &error),
        Ok(_) => {
            let text = "a deleted object still exists; wait for it, or check whether an object lock of \
                        the bucket retains it";
            doctor.report(Finding::warn("delete object", text));
        }
    }
}
