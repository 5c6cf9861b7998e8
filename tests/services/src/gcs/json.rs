//! Calls of the JSON API, uploads apart.

use serde_json::{Map, Value, json};

use super::{
    Service,
    objects::{
        ComposeSource, ListQuery, Object, ObjectKey, Preconditions, Result, invalid, reject,
        unknown,
    },
    request::{
        Call, HttpResponse, check_permission, empty, insert_header, json_response, response, text,
    },
};

/// Answers a call whose path, after the version, is this one.
pub(super) fn handle(
    service: &mut Service,
    call: &Call<'_>,
    path: &[&str],
) -> Result<HttpResponse> {
    let method = call.method.as_str();
    match (method, path) {
        ("POST", ["b"]) => create_bucket(service, call),
        ("GET", ["b", bucket]) => get_bucket(service, call, bucket),
        ("GET", ["b", bucket, "iam", "testPermissions"]) => test_permissions(service, call, bucket),
        ("GET", ["b", bucket, "o"]) => list(service, call, bucket),
        ("GET", ["b", bucket, "o", name]) => get(service, call, bucket, name),
        ("PATCH", ["b", bucket, "o", name]) => patch(service, call, bucket, name),
        ("DELETE", ["b", bucket, "o", name]) => delete(service, call, bucket, name),
        ("POST", ["b", bucket, "o", name, "compose"]) => compose(service, call, bucket, name),
        ("POST", ["b", bucket, "o", name, "rewriteTo", "b", to, "o", target]) => {
            rewrite(service, call, (bucket, name), (to, target))
        }
        _ => Err(unknown(format!("{method} {path:?}"))),
    }
}

fn create_bucket(service: &mut Service, call: &Call<'_>) -> Result<HttpResponse> {
    service.count("buckets.insert");
    call.expect_parameters(&["project"])?;
    let body = call.json()?;
    let name = body["name"].as_str().unwrap_or_default();
    check_permission(service, "storage.buckets.create", name)?;
    if name.is_empty() || call.parameter("project").is_none() {
        return Err(reject(400, "required", "Required"));
    }
    if !service.buckets.create_bucket(name) {
        let message =
            "Your previous request to create the named bucket succeeded and you already own it.";
        return Err(reject(409, "conflict", message));
    }
    Ok(json_response(
        200,
        &service.buckets.bucket(name)?.clone().into(),
    ))
}

fn get_bucket(service: &mut Service, call: &Call<'_>, bucket: &str) -> Result<HttpResponse> {
    service.count("buckets.get");
    call.expect_parameters(&[])?;
    check_permission(service, "storage.buckets.get", bucket)?;
    Ok(json_response(
        200,
        &service.buckets.bucket(bucket)?.clone().into(),
    ))
}

fn test_permissions(service: &mut Service, call: &Call<'_>, bucket: &str) -> Result<HttpResponse> {
    service.count("buckets.testIamPermissions");
    call.expect_parameters(&["permissions"])?;
    service.buckets.bucket(bucket)?;
    let wanted = call.query.iter().filter(|(name, _)| name == "permissions");
    let wanted: Vec<_> = wanted.map(|(_, permission)| permission.as_str()).collect();
    if wanted.is_empty() {
        return Err(reject(400, "required", "Required parameter: permissions"));
    }
    let granted = wanted
        .into_iter()
        .filter(|&name| !service.denied.contains(name));
    let mut answer = json!({"kind": "storage#testIamPermissionsResponse"});
    let granted: Vec<_> = granted.collect();
    // As everywhere in Google's JSON: an empty list is left out.
    if !granted.is_empty() {
        answer["permissions"] = granted.into();
    }
    Ok(json_response(200, &answer))
}

fn list(service: &mut Service, call: &Call<'_>, bucket: &str) -> Result<HttpResponse> {
    service.count("objects.list");
    call.expect_parameters(&[
        "delimiter",
        "endOffset",
        "maxResults",
        "pageToken",
        "prefix",
        "startOffset",
    ])?;
    check_permission(service, "storage.objects.list", bucket)?;
    let text = |name| call.parameter(name).filter(|value| !value.is_empty());
    let max = call.number("maxResults")?;
    let query = ListQuery {
        prefix: text("prefix").unwrap_or_default(),
        delimiter: text("delimiter"),
        page_token: text("pageToken"),
        start: text("startOffset"),
        end: text("endOffset"),
        max: max.map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
    };
    let found = service.buckets.list(bucket, &query)?;
    let resource = |(name, object): (&str, &Object)| object.resource(&call.endpoint, bucket, name);
    let items: Vec<_> = found.items.into_iter().map(resource).collect();
    let mut page = Map::from_iter([("kind".to_owned(), "storage#objects".into())]);
    if !items.is_empty() {
        page.insert("items".into(), items.into());
    }
    if !found.prefixes.is_empty() {
        page.insert("prefixes".into(), found.prefixes.into());
    }
    if let Some(next) = found.next {
        page.insert("nextPageToken".into(), next.into());
    }
    Ok(json_response(200, &page.into()))
}

fn get(service: &mut Service, call: &Call<'_>, bucket: &str, name: &str) -> Result<HttpResponse> {
    let is_media = call.is_media();
    service.count(if is_media {
        "objects.download"
    } else {
        "objects.get"
    });
    call.expect_parameters(&["generation"])?;
    check_permission(service, "storage.objects.get", bucket)?;
    let generation = call.number("generation")?;
    let key = ObjectKey {
        bucket,
        name,
        generation,
    };
    let object = service.buckets.get(key, call.preconditions()?)?;
    if is_media {
        return download(object, call.header("range"));
    }
    Ok(json_response(
        200,
        &object.resource(&call.endpoint, bucket, name),
    ))
}

/// Sends an object's bytes, or a range of them.
pub(super) fn download(object: &Object, range: Option<&str>) -> Result<HttpResponse> {
    let size = object.content.size();
    let attribute = |field| object.attributes.get(field).and_then(Value::as_str);
    let content_type = attribute("contentType").unwrap_or("application/octet-stream");
    let mut answer = match range.and_then(|range| parse_range(range, size)) {
        None => response(200, content_type, object.content.clone()),
        Some(None) => {
            let mut answer = text(416, "The requested range cannot be satisfied.");
            insert_header(&mut answer, "content-range", &format!("bytes */{size}"));
            return Ok(answer);
        }
        Some(Some((start, length))) => {
            let mut answer = response(206, content_type, object.content.slice(start, length));
            let range = format!("bytes {start}-{}/{size}", start + length - 1);
            insert_header(&mut answer, "content-range", &range);
            answer
        }
    };
    let mut hash = format!("crc32c={}", object.content.crc32c());
    if let Some(md5) = &object.md5 {
        hash = format!("{hash},md5={md5}");
    }
    let updated =
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&object.updated);
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("etag", &object.etag()),
        ("last-modified", &updated.unwrap_or_default()),
        ("x-goog-generation", &object.generation.to_string()),
        ("x-goog-metageneration", &object.metageneration.to_string()),
        ("x-goog-hash", &hash),
        ("x-goog-storage-class", "STANDARD"),
        (
            "x-goog-stored-content-encoding",
            attribute("contentEncoding").unwrap_or("identity"),
        ),
        ("x-goog-stored-content-length", &size.to_string()),
    ] {
        insert_header(&mut answer, name, value);
    }
    for (name, field) in [
        ("cache-control", "cacheControl"),
        ("content-disposition", "contentDisposition"),
        ("content-encoding", "contentEncoding"),
        ("content-language", "contentLanguage"),
    ] {
        if let Some(value) = attribute(field) {
            insert_header(&mut answer, name, value);
        }
    }
    Ok(answer)
}

/// Returns start and length of a range; `Some(None)` if it is outside of the object, `None` if the header is ignored.
#[expect(clippy::option_option, reason = "three outcomes, as RFC 9110 has them")]
fn parse_range(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let length = last.parse::<u64>().ok()?.min(size);
        return Some((length > 0).then(|| (size - length, length)));
    }
    let first: u64 = first.parse().ok()?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        last.parse().ok()?
    };
    if last < first {
        return None;
    }
    Some((first < size).then(|| (first, last.min(size - 1) - first + 1)))
}

fn patch(service: &mut Service, call: &Call<'_>, bucket: &str, name: &str) -> Result<HttpResponse> {
    service.count("objects.patch");
    call.expect_parameters(&["generation"])?;
    check_permission(service, "storage.objects.update", bucket)?;
    let generation = call.number("generation")?;
    let key = ObjectKey {
        bucket,
        name,
        generation,
    };
    let changes = fields(call.json()?);
    if changes.contains_key("storageClass")
        || changes.contains_key("crc32c")
        || changes.contains_key("md5Hash")
    {
        return Err(invalid("A patch cannot change this field"));
    }
    let object = service.buckets.patch(key, call.preconditions()?, changes)?;
    Ok(json_response(
        200,
        &object.resource(&call.endpoint, bucket, name),
    ))
}

fn delete(
    service: &mut Service,
    call: &Call<'_>,
    bucket: &str,
    name: &str,
) -> Result<HttpResponse> {
    service.count("objects.delete");
    call.expect_parameters(&["generation"])?;
    check_permission(service, "storage.objects.delete", bucket)?;
    let generation = call.number("generation")?;
    let key = ObjectKey {
        bucket,
        name,
        generation,
    };
    service.buckets.delete(key, call.preconditions()?)?;
    Ok(empty(204))
}

/// Checks the permission to write an object, which is one more if it exists.
pub(super) fn check_write(service: &Service, bucket: &str, name: &str) -> Result<()> {
    check_permission(service, "storage.objects.create", bucket)?;
    if service.buckets.content(bucket, name).is_some() {
        check_permission(service, "storage.objects.delete", bucket)?;
    }
    Ok(())
}

fn compose(
    service: &mut Service,
    call: &Call<'_>,
    bucket: &str,
    name: &str,
) -> Result<HttpResponse> {
    service.count("objects.compose");
    call.expect_parameters(&[])?;
    check_permission(service, "storage.objects.get", bucket)?;
    check_write(service, bucket, name)?;
    let mut body = fields(call.json()?);
    let sources = body.remove("sourceObjects").unwrap_or_default();
    let sources = sources.as_array().map_or(&[][..], Vec::as_slice);
    let sources = sources
        .iter()
        .map(compose_source)
        .collect::<Result<Vec<_>>>()?;
    let mut attributes = body.remove("destination").map(fields).unwrap_or_default();
    // The SDK sends those of the object before, so they cannot be checked.
    attributes.retain(|field, _| field != "crc32c" && field != "md5Hash");
    body.remove("kind");
    if let Some(field) = body.keys().next() {
        return Err(unknown(format!("the field {field} of a compose")));
    }
    let object =
        service
            .buckets
            .compose(bucket, name, &sources, &attributes, call.preconditions()?)?;
    Ok(json_response(
        200,
        &object.resource(&call.endpoint, bucket, name),
    ))
}

/// Numbers of 64 bits are text in Google's JSON; the service accepts both.
fn compose_source(source: &Value) -> Result<ComposeSource> {
    let number = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(text) => text
            .parse()
            .map(Some)
            .map_err(|_| invalid("Invalid generation")),
        value => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| invalid("Invalid generation")),
    };
    let fields = source.as_object().into_iter().flatten();
    for (field, value) in fields {
        let conditions = value.as_object().into_iter().flat_map(Map::keys);
        let is_known = match field.as_str() {
            "name" | "generation" => true,
            "objectPreconditions" => conditions
                .into_iter()
                .all(|name| name == "ifGenerationMatch"),
            _ => false,
        };
        if !is_known {
            return Err(unknown(format!(
                "the field {field} of a source with the value {value}"
            )));
        }
    }
    let name = source["name"].as_str();
    Ok(ComposeSource {
        name: name
            .ok_or_else(|| reject(400, "required", "Required"))?
            .to_owned(),
        generation: number(&source["generation"])?,
        preconditions: Preconditions {
            generation: number(&source["objectPreconditions"]["ifGenerationMatch"])?,
            ..Preconditions::default()
        },
    })
}

/// Copies an object in one call, as the service does within a location and a class.
fn rewrite(
    service: &mut Service,
    call: &Call<'_>,
    (bucket, name): (&str, &str),
    (to, target): (&str, &str),
) -> Result<HttpResponse> {
    service.count("objects.rewrite");
    call.expect_parameters(&["ifSourceGenerationMatch", "sourceGeneration"])?;
    check_permission(service, "storage.objects.get", bucket)?;
    check_write(service, to, target)?;
    let generation = call.number("sourceGeneration")?;
    let source = ObjectKey {
        bucket,
        name,
        generation,
    };
    let source_wanted = Preconditions {
        generation: call.number("ifSourceGenerationMatch")?,
        ..Preconditions::default()
    };
    let target = ObjectKey {
        bucket: to,
        name: target,
        generation: None,
    };
    let attributes = fields(call.json()?);
    let attributes = (!attributes.is_empty()).then_some(&attributes);
    let wanted = call.preconditions()?;
    let object = service
        .buckets
        .rewrite(source, source_wanted, target, wanted, attributes)?;
    let size = object.content.size().to_string();
    let answer = json!({
        "kind": "storage#rewriteResponse", "done": true, "objectSize": size, "totalBytesRewritten": size,
        "resource": object.resource(&call.endpoint, to, target.name),
    });
    Ok(json_response(200, &answer))
}

/// Returns the fields of an object of JSON.
pub(super) fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
