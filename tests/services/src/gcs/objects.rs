//! Buckets and objects, by the service's rules. It knows nothing of HTTP but the numbers of its statuses.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{GcsObject, content::Content, sessions::Session};

const MAX_SOURCES: usize = 32;
const MAX_PAGE: usize = 1000;
const MAX_NAME_BYTES: usize = 1024;
/// Between two writes of a name, and between two changes of an object's metadata.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// The fields that a writer may set, checksums apart.
const ATTRIBUTES: [&str; 8] = [
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
    "storageClass",
];

/// Fields that the service sets. It ignores them where a client sends back a resource that it has read, as the SDK does.
const OUTPUT_ONLY: [&str; 13] = [
    "bucket",
    "componentCount",
    "etag",
    "generation",
    "id",
    "kind",
    "mediaLink",
    "metageneration",
    "selfLink",
    "size",
    "timeCreated",
    "timeStorageClassUpdated",
    "updated",
];

/// A rejection: status, reason and message in the service's wording.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

pub(super) type Result<T> = std::result::Result<T, Rejection>;

pub(super) fn reject(status: u16, reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection {
        status,
        reason,
        message: message.into(),
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Rejection {
    reject(400, "invalid", message)
}

pub(super) fn missing(message: impl Into<String>) -> Rejection {
    reject(404, "notFound", message)
}

/// A request that the service may well know, but the fake does not.
pub(super) fn unknown(message: impl Into<String>) -> Rejection {
    reject(501, "notImplemented", message)
}

/// The preconditions of a query; each that is present must hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Preconditions {
    /// 0: there is no such object.
    pub(super) generation: Option<u64>,
    pub(super) not_generation: Option<u64>,
    pub(super) metageneration: Option<u64>,
    pub(super) not_metageneration: Option<u64>,
}

/// An object by its bucket and name, and by its generation if only that one is meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectKey<'a> {
    pub(super) bucket: &'a str,
    pub(super) name: &'a str,
    pub(super) generation: Option<u64>,
}

/// Fields of an object that a writer sends, checksums included.
pub(super) type Attributes = Map<String, Value>;

/// An object with its resource.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) content: Content,
    pub(super) generation: u64,
    pub(super) metageneration: u64,
    pub(super) attributes: Attributes,
    /// The number of components of a composed object.
    components: Option<u64>,
    /// A composed object has none.
    pub(super) md5: Option<String>,
    created: Timestamp,
    pub(super) updated: Timestamp,
}

/// A request for a page of a list.
#[derive(Debug, Default)]
pub(super) struct ListQuery<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) page_token: Option<&'a str>,
    /// The first name, which is included.
    pub(super) start: Option<&'a str>,
    /// The first name that is not included.
    pub(super) end: Option<&'a str>,
    pub(super) max: Option<usize>,
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Page<'a> {
    pub(super) items: Vec<(&'a str, &'a Object)>,
    pub(super) prefixes: Vec<String>,
    /// The token of the next page.
    pub(super) next: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    fields: Map<String, Value>,
    objects: BTreeMap<String, Object>,
}

#[derive(Debug)]
pub(super) struct Buckets {
    buckets: BTreeMap<String, Bucket>,
    pub(super) sessions: HashMap<String, Session>,
    /// When a name was last written, and when its metadata was last changed.
    changes: HashMap<(String, String, bool), Instant>,
    newest_generation: u64,
    pub(super) is_rate_limited: bool,
}

impl Buckets {
    pub(super) fn new(names: &[&str]) -> Self {
        let mut buckets = Self {
            buckets: BTreeMap::new(),
            sessions: HashMap::new(),
            changes: HashMap::new(),
            // Generations are microseconds, so they do not begin again with a second fake.
            newest_generation: u64::try_from(Timestamp::now().as_microsecond()).unwrap(),
            is_rate_limited: true,
        };
        for name in names {
            buckets.create_bucket(name);
        }
        buckets
    }

    /// Returns whether it is new.
    pub(super) fn create_bucket(&mut self, name: &str) -> bool {
        if self.buckets.contains_key(name) {
            return false;
        }
        let fields = json!({
            "kind": "storage#bucket", "id": name, "name": name, "location": "EU", "locationType": "multi-region",
            "storageClass": "STANDARD", "metageneration": "1", "timeCreated": format!("{:.3}", Timestamp::now()),
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": true}},
            "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        });
        let Value::Object(fields) = fields else {
            return false;
        };
        let objects = BTreeMap::new();
        let bucket = Bucket { fields, objects };
        self.buckets.insert(name.to_owned(), bucket);
        true
    }

    pub(super) fn set_bucket_field(&mut self, bucket: &str, field: &str, value: Value) {
        let bucket = self.buckets.get_mut(bucket).unwrap();
        bucket.fields.insert(field.to_owned(), value);
    }

    pub(super) fn objects(&self, bucket: &str) -> Vec<GcsObject> {
        let objects = self
            .buckets
            .get(bucket)
            .into_iter()
            .flat_map(|bucket| &bucket.objects);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = |(name, object): (&String, &Object)| GcsObject {
            name: name.clone(),
            size: object.content.size(),
            generation: object.generation,
            components: object.components,
            content_type: object.attributes.get("contentType").map(text),
            metadata: object
                .metadata()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
        };
        objects.map(object).collect()
    }

    pub(super) fn content(&self, bucket: &str, name: &str) -> Option<Content> {
        Some(self.buckets.get(bucket)?.objects.get(name)?.content.clone())
    }

    pub(super) fn insert_for_test(&mut self, bucket: &str, name: &str, bytes: Bytes) -> u64 {
        let object = self.new_object(bytes.into(), &Attributes::new(), None);
        let generation = object.generation;
        let bucket = self.buckets.get_mut(bucket).unwrap();
        bucket.objects.insert(name.to_owned(), object);
        generation
    }

    pub(super) fn bucket(&self, bucket: &str) -> Result<&Map<String, Value>> {
        Ok(&self.find_bucket(bucket)?.fields)
    }

    pub(super) fn find_bucket(&self, bucket: &str) -> Result<&Bucket> {
        let found = self.buckets.get(bucket);
        found.ok_or_else(|| missing("The specified bucket does not exist."))
    }

    /// Returns an object if it exists, and its preconditions hold.
    fn check(&self, key: ObjectKey<'_>, wanted: Preconditions) -> Result<Option<&Object>> {
        let found = self.find_bucket(key.bucket)?.objects.get(key.name);
        let found = found.filter(|found| key.generation.is_none_or(|one| one == found.generation));
        let generation = found.map_or(0, |found| found.generation);
        let metageneration = found.map_or(0, |found| found.metageneration);
        let is_match = |wanted: Option<u64>, current| wanted.is_none_or(|wanted| wanted == current);
        let differs = |wanted: Option<u64>, current| wanted.is_none_or(|wanted| wanted != current);
        let holds = is_match(wanted.generation, generation)
            && is_match(wanted.metageneration, metageneration)
            && differs(wanted.not_generation, generation)
            && differs(wanted.not_metageneration, metageneration);
        if !holds {
            let message = "At least one of the pre-conditions you specified did not hold.";
            return Err(reject(412, "conditionNotMet", message));
        }
        Ok(found)
    }

    pub(super) fn get(&self, key: ObjectKey<'_>, wanted: Preconditions) -> Result<&Object> {
        let found = self.check(key, wanted)?;
        found.ok_or_else(|| missing(format!("No such object: {}/{}", key.bucket, key.name)))
    }

    /// Rejects a second write of a name within a second, or a second change of its metadata.
    fn limit_rate(&mut self, bucket: &str, name: &str, is_metadata: bool) -> Result<()> {
        let now = Instant::now();
        let key = (bucket.to_owned(), name.to_owned(), is_metadata);
        let last = self.changes.get(&key);
        let is_early = last.is_some_and(|last| now.duration_since(*last) < WRITE_INTERVAL);
        if is_early && self.is_rate_limited {
            let message = format!(
                "The object {bucket}/{name} exceeded the rate limit for object mutation operations (create, update, and \
                 delete). Please reduce your request rate. See https://cloud.google.com/storage/docs/gcs429."
            );
            return Err(reject(429, "rateLimitExceeded", message));
        }
        self.changes.insert(key, now);
        Ok(())
    }

    /// The last step of every write: the object appears whole.
    pub(super) fn insert(
        &mut self,
        bucket: &str,
        name: &str,
        content: Content,
        attributes: &Attributes,
        wanted: Preconditions,
    ) -> Result<Object> {
        self.store(bucket, name, content, attributes, wanted, None)
    }

    fn store(
        &mut self,
        bucket: &str,
        name: &str,
        content: Content,
        attributes: &Attributes,
        wanted: Preconditions,
        components: Option<u64>,
    ) -> Result<Object> {
        check_name(name)?;
        check_attributes(attributes)?;
        let key = ObjectKey {
            bucket,
            name,
            generation: None,
        };
        self.check(key, wanted)?;
        check_sum(attributes, "crc32c", "CRC32C", || content.crc32c())?;
        check_sum(attributes, "md5Hash", "MD5 hash", || content.md5())?;
        self.limit_rate(bucket, name, false)?;
        let object = self.new_object(content, attributes, components);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.objects.insert(name.to_owned(), object.clone());
        }
        Ok(object)
    }

    fn new_object(
        &mut self,
        content: Content,
        attributes: &Attributes,
        components: Option<u64>,
    ) -> Object {
        self.newest_generation += 1;
        let mut attributes = attributes.clone();
        attributes.retain(|field, value| ATTRIBUTES.contains(&field.as_str()) && !value.is_null());
        let now = Timestamp::now();
        Object {
            md5: components.is_none().then(|| content.md5()),
            content,
            generation: self.newest_generation,
            metageneration: 1,
            attributes,
            components,
            created: now,
            updated: now,
        }
    }

    pub(super) fn delete(&mut self, key: ObjectKey<'_>, wanted: Preconditions) -> Result<()> {
        self.get(key, wanted)?;
        if let Some(bucket) = self.buckets.get_mut(key.bucket) {
            bucket.objects.remove(key.name);
        }
        Ok(())
    }

    /// Changes attributes of an object; `null` removes one.
    pub(super) fn patch(
        &mut self,
        key: ObjectKey<'_>,
        wanted: Preconditions,
        changes: Attributes,
    ) -> Result<Object> {
        self.get(key, wanted)?;
        check_attributes(&changes)?;
        self.limit_rate(key.bucket, key.name, true)?;
        let bucket = self.buckets.get_mut(key.bucket);
        let object = bucket.and_then(|bucket| bucket.objects.get_mut(key.name));
        let object = object.ok_or_else(|| missing("No such object"))?;
        object.metageneration += 1;
        object.updated = Timestamp::now();
        for (field, value) in changes {
            match (object.attributes.get_mut(&field), value) {
                (_, Value::Null) => {
                    object.attributes.remove(&field);
                }
                (Some(Value::Object(pairs)), Value::Object(new)) => {
                    pairs.extend(new);
                    pairs.retain(|_, value| !value.is_null());
                }
                (_, Value::Object(mut new)) => {
                    new.retain(|_, value| !value.is_null());
                    object.attributes.insert(field, new.into());
                }
                (_, value) => {
                    object.attributes.insert(field, value);
                }
            }
        }
        Ok(object.clone())
    }

    /// Makes an object of others, which stay. It inherits none of their attributes.
    pub(super) fn compose(
        &mut self,
        bucket: &str,
        name: &str,
        sources: &[ComposeSource],
        attributes: &Attributes,
        wanted: Preconditions,
    ) -> Result<Object> {
        if sources.is_empty() {
            return Err(reject(
                400,
                "required",
                "You must provide at least one source component.",
            ));
        }
        if sources.len() > MAX_SOURCES {
            let message = format!(
                "The number of source components provided ({}) exceeds the maximum ({MAX_SOURCES}).",
                sources.len()
            );
            return Err(invalid(message));
        }
        let (mut content, mut components) = (Content::default(), 0);
        for source in sources {
            let key = ObjectKey {
                bucket,
                name: &source.name,
                generation: source.generation,
            };
            let found = self.check(key, source.preconditions)?;
            let found =
                found.ok_or_else(|| missing(format!("Object {} not found.", source.name)))?;
            content.append(&found.content);
            components += found.components.unwrap_or(1);
        }
        self.store(bucket, name, content, attributes, wanted, Some(components))
    }

    /// Copies an object. Without attributes, the copy has those of the source.
    pub(super) fn rewrite(
        &mut self,
        source: ObjectKey<'_>,
        source_wanted: Preconditions,
        target: ObjectKey<'_>,
        wanted: Preconditions,
        attributes: Option<&Attributes>,
    ) -> Result<Object> {
        let found = self.get(source, source_wanted)?.clone();
        let attributes = attributes.unwrap_or(&found.attributes);
        self.store(
            target.bucket,
            target.name,
            found.content,
            attributes,
            wanted,
            found.components,
        )
    }

    /// Returns a page of objects and folders, in the order of their names.
    pub(super) fn list(&self, bucket: &str, query: &ListQuery<'_>) -> Result<Page<'_>> {
        let objects = &self.find_bucket(bucket)?.objects;
        let after = query.page_token.map(|token| {
            let decoded = STANDARD
                .decode(token)
                .ok()
                .and_then(|name| String::from_utf8(name).ok());
            decoded.ok_or_else(|| invalid("Invalid pageToken"))
        });
        let after = after.transpose()?;
        let first = query.start.unwrap_or_default().max(query.prefix);
        let start = match &after {
            Some(after) if after.as_str() >= first => Bound::Excluded(after.as_str()),
            _ => Bound::Included(first),
        };
        let max = query.max.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let mut page = Page::default();
        let mut last = String::new();
        for (name, object) in objects.range::<str, _>((start, Bound::Unbounded)) {
            if !name.starts_with(query.prefix) || query.end.is_some_and(|end| name.as_str() >= end)
            {
                break;
            }
            let folder = query.delimiter.and_then(|delimiter| {
                let start = query.prefix.len();
                let end = start + name[start..].find(delimiter)? + delimiter.len();
                Some(name[..end].to_owned())
            });
            if folder.is_some() && folder.as_ref() == page.prefixes.last() {
                last.clone_from(name);
                continue;
            }
            if page.items.len() + page.prefixes.len() == max {
                page.next = Some(STANDARD.encode(last));
                return Ok(page);
            }
            last.clone_from(name);
            match folder {
                Some(folder) => page.prefixes.push(folder),
                None => page.items.push((name.as_str(), object)),
            }
        }
        Ok(page)
    }
}

/// A source of a compose.
#[derive(Debug)]
pub(super) struct ComposeSource {
    pub(super) name: String,
    pub(super) generation: Option<u64>,
    pub(super) preconditions: Preconditions,
}

impl Object {
    pub(super) fn metadata(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.attributes
            .get("metadata")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    pub(super) fn etag(&self) -> String {
        STANDARD.encode(format!("{}/{}", self.generation, self.metageneration))
    }

    /// Returns its resource, as the JSON API has it.
    pub(super) fn resource(&self, endpoint: &str, bucket: &str, name: &str) -> Value {
        let path = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let generation = self.generation;
        let mut resource = json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{name}/{generation}"),
            "selfLink": format!("{endpoint}/storage/v1/b/{bucket}/o/{path}"),
            "mediaLink": format!("{endpoint}/download/storage/v1/b/{bucket}/o/{path}?generation={generation}&alt=media"),
            "name": name,
            "bucket": bucket,
            "generation": generation.to_string(),
            "metageneration": self.metageneration.to_string(),
            "size": self.content.size().to_string(),
            "crc32c": self.content.crc32c(),
            "etag": self.etag(),
            "storageClass": "STANDARD",
            "timeCreated": format!("{:.3}", self.created),
            "timeStorageClassUpdated": format!("{:.3}", self.created),
            "updated": format!("{:.3}", self.updated),
        });
        if let Value::Object(fields) = &mut resource {
            fields.extend(self.attributes.clone());
            if let Some(md5) = &self.md5 {
                fields.insert("md5Hash".into(), md5.as_str().into());
            }
            if let Some(components) = self.components {
                fields.insert("componentCount".into(), components.into());
            }
        }
        resource
    }
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let is_reserved =
        name == "." || name == ".." || name.starts_with(".well-known/acme-challenge/");
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(['\r', '\n']) || is_reserved
    {
        return Err(invalid(format!("Invalid object name: {name:?}")));
    }
    Ok(())
}

/// Metadata is text, and no field is ignored.
pub(super) fn check_attributes(attributes: &Attributes) -> Result<()> {
    for (field, value) in attributes {
        let is_valid = match (field.as_str(), value) {
            ("metadata", Value::Object(pairs)) => pairs
                .values()
                .all(|value| value.is_string() || value.is_null()),
            ("name" | "crc32c" | "md5Hash", Value::String(_)) => true,
            (field, _) if OUTPUT_ONLY.contains(&field) => true,
            (field, Value::String(_) | Value::Null) if ATTRIBUTES.contains(&field) => true,
            _ => {
                return Err(unknown(format!(
                    "the field {field} of an object with the value {value}"
                )));
            }
        };
        if !is_valid {
            return Err(invalid(format!("Invalid value for: {field}")));
        }
    }
    Ok(())
}

fn check_sum(
    attributes: &Attributes,
    field: &str,
    kind: &str,
    compute: impl FnOnce() -> String,
) -> Result<()> {
    let Some(stated) = attributes.get(field).and_then(Value::as_str) else {
        return Ok(());
    };
    let computed = compute();
    if stated == computed {
        return Ok(());
    }
    let message =
        format!("Provided {kind} \"{stated}\" doesn't match calculated {kind} \"{computed}\".");
    Err(invalid(message))
}
