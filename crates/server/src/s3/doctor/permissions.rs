//! Tries each call of an upload. An upload needs all of them but copies and listings.

use bytes::Bytes;
use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::{
    client::{Condition, ObjectHeaders, ObjectRef, Payload},
    lease::keeps_prefix,
};

use super::{Doctor, Finding};
use crate::s3::is_odd_prefix;

const PART: usize = 5 << 20;

pub(super) async fn run(doctor: &mut Doctor<'_>) -> bool {
    let client = doctor.client.clone();
    let source = doctor.object("source");
    let none = ObjectHeaders::default();
    let content = Bytes::from(vec![b'L'; PART]);
    let payload = Payload::from(content.clone());
    let put = client.put_object(&source, payload, &none, Condition::None);
    if doctor.call("put object", None, put).await.is_none() {
        // The call was denied, so there is nothing to remove.
        doctor.objects.clear();
        return false;
    }
    prefix(doctor).await;
    let head = client.head_object(&source);
    doctor.call("head object", None, head).await;
    let get = async {
        let end = (PART as u64 - 4)..PART as u64;
        let object = client.get_object(&source, Some(end)).await?;
        object.bytes(PART).await
    };
    doctor.call("get object", None, get).await;
    multipart(doctor, &source, content).await;
    abort(doctor).await;
    let delete = client.delete_object(&source);
    if doctor.call("delete object", None, delete).await.is_some()
        && client.head_object(&source).await.is_ok()
    {
        let text = "a deleted object still exists; wait for it, or check whether an object lock of \
                    the bucket retains it";
        doctor.report(Finding::warn("delete object", text));
    }
    true
}

async fn prefix(doctor: &mut Doctor<'_>) {
    let prefix = doctor.prefix;
    if !is_odd_prefix(prefix) {
        return;
    }
    if let Ok(false) = keeps_prefix(&doctor.client, doctor.bucket, prefix).await {
        let text = format!("the service changes keys that begin with {prefix}");
        let advice = "leave out the slash at the beginning of --s3-object-prefix";
        doctor.report(Finding::fail("prefix", text).advise(advice));
    }
}

async fn multipart(doctor: &mut Doctor<'_>, source: &ObjectRef, content: Bytes) {
    let client = doctor.client.clone();
    let object = doctor.object("concatenated");
    let headers = doctor.s3().headers.clone();
    let none = ObjectHeaders::default();
    let started = match client.create_multipart(&object, &headers).await {
        Err(error) if headers != none => {
            let without_headers = client.create_multipart(&object, &none).await;
            if without_headers.is_ok() {
                let diagnosis = doctor.diagnose(error);
                let finding = Finding::fail("object headers", diagnosis.response);
                doctor.report(finding.advise(
                    "the service rejects a header of --s3-headers: permit it, or remove it",
                ));
            }
            without_headers
        }
        result => result,
    };
    let begin = async { started };
    let Some(id) = doctor.call("create multipart", None, begin).await else {
        return;
    };
    doctor.multiparts.push((object.clone(), id.clone()));

    let copy = client.copy_part(&object, &id, 1, source, 0..PART as u64);
    let missing = "concatenation of partial uploads will not work";
    let copied = doctor.call("upload part copy", Some(missing), copy);
    let first = match copied.await {
        Some(etag) => Some(etag),
        None => {
            let part = client.upload_part(
                &object,
                &id,
                1,
                Payload::from(content),
                PartCondition::default(),
            );
            part.await.ok()
        }
    };
    let end = Payload::from(Bytes::from_static(b"the end"));
    let send = client.upload_part(&object, &id, 2, end, PartCondition::default());
    let second = doctor.call("upload part", None, send).await;
    let list = client.list_parts(&object, &id);
    let listed = doctor.call("list parts", None, list).await;
    let (Some(first), Some(second)) = (first, second) else {
        return;
    };
    if let Some(parts) = listed {
        let found: Vec<(u32, u64)> = parts.iter().map(|p| (p.number, p.size)).collect();
        if found != [(1, PART as u64), (2, 7)] {
            let text = format!("two parts were uploaded, but these are listed: {found:?}");
            doctor.report(Finding::fail("list parts", text));
        }
    }
    let parts = [(1, first), (2, second)];
    let complete = client.complete_multipart(&object, &id, &parts, &none);
    if doctor
        .call("complete multipart", None, complete)
        .await
        .is_some()
        && let Ok(head) = client.head_object(&object).await
        && head.size != PART as u64 + 7
    {
        let text = format!(
            "parts of {} bytes make an object of {}",
            PART + 7,
            head.size
        );
        doctor.report(Finding::fail("complete multipart", text));
    }
}

async fn abort(doctor: &mut Doctor<'_>) {
    let client = doctor.client.clone();
    let object = doctor.object("aborted");
    let none = ObjectHeaders::default();
    let Ok(id) = client.create_multipart(&object, &none).await else {
        return;
    };
    doctor.multiparts.push((object.clone(), id.clone()));
    let key_prefix = doctor.key_prefix.clone();
    let list = client.list_multiparts(doctor.bucket, &key_prefix, None, 100);
    let missing = "the sweeper cannot find multipart uploads left by a crash";
    if let Some(page) = doctor.call("list multiparts", Some(missing), list).await
        && !page.uploads.iter().any(|one| one.upload_id == id)
    {
        let text = "one that was just started isn't listed: the sweeper finds none either";
        doctor.report(Finding::warn("list multiparts", text));
    }
    let abort = client.abort_multipart(&object, &id);
    doctor.call("abort multipart", None, abort).await;
}
