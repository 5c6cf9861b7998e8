//! Probes of a service: what bucket leases and keys need of it. They leave nothing behind.

use landfall_objects::{Cloud as _, put_record};

use crate::client::{Client, Condition, ErrorKind, ObjectRef, Result};

/// The conditions of writes that a service honors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConditionalWrites {
    /// `If-None-Match: *`: an object can be written once.
    pub if_absent: bool,
    /// `If-Match`: an object can be replaced unless it has changed.
    pub if_match: bool,
}

impl ConditionalWrites {
    /// Both.
    pub const ALL: Self = Self {
        if_absent: true,
        if_match: true,
    };

    /// Returns whether both are honored, as a [`BucketLocker`](crate::lease::BucketLocker) requires.
    #[must_use]
    pub const fn all(self) -> bool {
        self.if_absent && self.if_match
    }
}

/// Finds out which conditions the service honors on writes, each by its own probe.
///
/// AWS, moto, MinIO and R2 honor both. Ceph and DigitalOcean compare `If-Match` with the entity tag
/// without quotes: `client` and its clones send it like that from then on. Garage ignores both.
/// The probes write and delete objects below `PREFIX.landfall/probes/`.
///
/// # Errors
/// Any error of these calls.
///
/// # Cancel safety
/// The objects may remain.
pub async fn probe_conditional_writes(
    client: &Client,
    bucket: &str,
    prefix: &str,
) -> Result<ConditionalWrites> {
    let write = async |object_ref: &ObjectRef, text: &str, condition| {
        put_record(client, object_ref, text.into(), condition).await
    };
    let if_absent = probe(client, bucket, prefix, async |object_ref| {
        let first = write(object_ref, "first", Condition::IfAbsent).await?;
        let refused = is_refused(write(object_ref, "second", Condition::IfAbsent).await)?;
        Ok(refused && client.head_object(object_ref).await?.etag == first)
    });
    let if_absent = if_absent.await?;
    let if_match = probe(client, bucket, prefix, async |object_ref| {
        let first = write(object_ref, "first", Condition::None).await?;
        let over = || Condition::IfMatch(first.clone());
        let mut second = write(object_ref, "second", over()).await;
        if matches!(&second, Err(error) if *error.kind() == ErrorKind::PreconditionFailed) {
            client.set_unquoted_if_match(true);
            second = write(object_ref, "second", over()).await;
            if second.is_err() {
                client.set_unquoted_if_match(false);
            }
        }
        let second = match second {
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => return Ok(false),
            second => second?,
        };
        let refused = is_refused(write(object_ref, "third", over()).await)?;
        Ok(refused && client.head_object(object_ref).await?.etag == second)
    });
    Ok(ConditionalWrites {
        if_absent,
        if_match: if_match.await?,
    })
}

/// Checks that the service keeps the keys below a prefix as they are. Garage removes a slash at their
/// beginning, so that it lists nothing with such a prefix.
///
/// Writes, lists and deletes an object below `PREFIX.landfall/probes/`.
///
/// # Errors
/// Any error of these calls.
///
/// # Cancel safety
/// The object may remain.
pub async fn keeps_prefix(client: &Client, bucket: &str, prefix: &str) -> Result<bool> {
    probe(client, bucket, prefix, async |object_ref| {
        let none = Condition::None;
        put_record(client, object_ref, "probe".into(), none).await?;
        let listed = client
            .list_objects(bucket, &object_ref.key, None, 1)
            .await?;
        Ok(listed.objects.iter().any(|one| one.key == object_ref.key))
    })
    .await
}

fn is_refused(result: Result<String>) -> Result<bool> {
    match result {
        Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(true),
        result => result.map(|_| false),
    }
}

async fn probe(
    client: &Client,
    bucket: &str,
    prefix: &str,
    attempt: impl AsyncFnOnce(&ObjectRef) -> Result<bool>,
) -> Result<bool> {
    let key = format!("{prefix}.landfall/probes/{:016x}", rand::random::<u64>());
    let object_ref = ObjectRef::new(bucket, key);
    let result = attempt(&object_ref).await;
    let removed = client.delete_object(&object_ref).await;
    let honored = match result {
        Err(error) if *error.kind() == ErrorKind::NotImplemented => false,
        result => result?,
    };
    removed?;
    Ok(honored)
}
