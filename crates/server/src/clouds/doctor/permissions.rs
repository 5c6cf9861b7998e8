//! Tries each call of an upload. An upload needs all of them but copies, and in Azure listings.

use bytes::Bytes;
use landfall_console::Finding;
use landfall_objects::{
    Condition, ErrorKind, ObjectHeaders, ObjectRef, Part, PartCondition, Payload, Result,
};

use crate::{
    doctor::{Doctor, Examined},
    settings::LeaseKind,
};

/// The names of the checks that differ between clouds.
pub(super) struct CheckNames {
    /// A bucket, or a container.
    pub(super) bucket: &'static str,
    pub(super) part: &'static str,
    pub(super) copy: &'static str,
    pub(super) complete: &'static str,
    /// Uploads work without a permission to list objects, but not what this says.
    pub(super) without_list: Option<&'static str>,
}

const CONTENT: &[u8] = b"Landfall checks this bucket.";

/// Returns whether objects can be written.
pub(super) async fn run<C: Examined>(doctor: &mut Doctor<'_, C>, names: &CheckNames) -> bool {
    let client = doctor.client.clone();
    let source = doctor.object("source");
    let put = put_object_if(&client, &source, Condition::IfAbsent);
    let Some(version) = doctor.call("put object", None, put).await else {
        // The call was denied, so there is nothing to remove.
        doctor.objects.clear();
        return false;
    };
    let head = client.head_object(&source);
    doctor.call("head object", None, head).await;
    let get = async {
        let object = client.get_object(&source, Some(4..CONTENT.len() as u64));
        object.await?.bytes(CONTENT.len()).await
    };
    doctor.call("get object", None, get).await;
    let list = client.list_objects(doctor.bucket, &source.key, None, 2);
    doctor.call("list objects", names.without_list, list).await;
    parts(doctor, names, &source).await;
    abort(doctor, names).await;
    conditions(doctor, &source, version).await;
    let delete = client.delete_object(&source);
    if doctor.call("delete object", None, delete).await.is_some()
        && client.head_object(&source).await.is_ok()
    {
        let text = "a deleted object still exists";
        let advice = "check whether a retention policy or a hold retains it";
        doctor.report(Finding::warn("delete object", text).advise(advice));
    }
    true
}

/// Writes a test object.
pub(super) async fn put_object<C: Examined>(client: &C, object: &ObjectRef) -> Result<String> {
    put_object_if(client, object, Condition::IfAbsent).await
}

async fn put_object_if<C: Examined>(
    client: &C,
    object: &ObjectRef,
    condition: Condition,
) -> Result<String> {
    let none = ObjectHeaders::default();
    let put = client.put_object(object, content(), &none, condition, None);
    put.await
}

fn content() -> Payload {
    Payload::from(Bytes::from_static(CONTENT))
}

async fn parts<C: Examined>(doctor: &mut Doctor<'_, C>, names: &CheckNames, source: &ObjectRef) {
    let client = doctor.client.clone();
    let object = doctor.object("whole");
    let headers = ObjectHeaders::default();
    let id = client.create_multipart(&object, &headers).await;
    let id = id.unwrap_or_default();
    doctor.multiparts.push((object.clone(), id.clone()));
    let mut parts = Vec::new();
    let none = PartCondition::default();
    let first = client.upload_part(&object, &id, 1, content(), none);
    match doctor.call(names.part, None, first).await {
        Some(tag) => parts.push((1, tag)),
        None => return,
    }
    let range = 0..CONTENT.len() as u64;
    let copy = client.copy_part(&object, &id, 2, source, range);
    let missing = "concatenation of partial uploads will not work";
    parts.extend(
        doctor
            .call(names.copy, Some(missing), copy)
            .await
            .map(|tag| (2, tag)),
    );
    let list = client.list_parts(&object, &id);
    if let Some(listed) = doctor.call("list parts", None, list).await {
        let size = |part: &Part| (part.number, part.size);
        let listed: Vec<_> = listed.iter().map(size).collect();
        let sent = parts.iter().map(|(number, _)| *number);
        let sent: Vec<_> = sent.map(|number| (number, CONTENT.len() as u64)).collect();
        if listed != sent {
            let text = format!(
                "{} parts were stored, but these are listed: {listed:?}",
                sent.len()
            );
            doctor.report(Finding::fail("list parts", text));
        }
    }
    let size = (parts.len() * CONTENT.len()) as u64;
    let complete = async {
        client
            .complete_multipart(&object, &id, &parts, &headers)
            .await?;
        client.head_object(&object).await
    };
    if let Some(head) = doctor.call(names.complete, None, complete).await
        && head.size != size
    {
        let text = format!("parts of {size} bytes make an object of {}", head.size);
        doctor.report(Finding::fail(names.complete, text));
    }
}

async fn abort<C: Examined>(doctor: &mut Doctor<'_, C>, names: &CheckNames) {
    let client = doctor.client.clone();
    let object = doctor.object("aborted");
    let headers = ObjectHeaders::default();
    let Ok(id) = client.create_multipart(&object, &headers).await else {
        return;
    };
    doctor.multiparts.push((object.clone(), id.clone()));
    let none = PartCondition::default();
    let part = client.upload_part(&object, &id, 1, content(), none).await;
    let remove = async {
        part?;
        client.abort_multipart(&object, &id).await
    };
    doctor.call(REMOVE_PARTS, names.without_list, remove).await;
}

const REMOVE_PARTS: &str = "remove parts";

/// The store writes nothing without a condition; leases in the bucket need both as well.
async fn conditions<C: Examined>(doctor: &mut Doctor<'_, C>, object: &ObjectRef, first: String) {
    const CHECK: &str = "conditional writes";
    let client = doctor.client.clone();
    let interval = client.rules().write_interval;
    let replaces = |condition| async {
        tokio::time::sleep(interval).await;
        match put_object_if(&client, object, condition).await {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(None),
            put => put.map(Some),
        }
    };
    let checked = async {
        if replaces(Condition::IfAbsent).await?.is_some() {
            return Ok(Some("an object that exists was replaced"));
        }
        if replaces(Condition::IfMatch(first.clone())).await?.is_none() {
            return Ok(Some("an object cannot be replaced by its version"));
        }
        let stale = replaces(Condition::IfMatch(first)).await?;
        Ok(stale.map(|_| "an object of another version was replaced"))
    };
    let is_leased = matches!(doctor.settings.leases.kind, LeaseKind::Store);
    let finding = match checked.await {
        Ok(None) if is_leased => Finding::ok(CHECK, "work, also for leases in the bucket"),
        Ok(None) => {
            Finding::ok(CHECK, "work").advise("leases can be stored in the bucket (--lease store)")
        }
        Ok(Some(text)) => {
            Finding::fail(CHECK, text).advise("use the service itself, or another emulator")
        }
        Err(error) => doctor.diagnose(error).failure(CHECK),
    };
    doctor.report(finding);
}
