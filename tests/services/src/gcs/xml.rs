//! The XML API, as far as signed URLs and sessions of browsers need it: objects only, no buckets, no multipart uploads.

use serde_json::Value;

use super::{
    Service,
    json::{check_write, download},
    objects::{
        Attributes, Object, ObjectKey, Preconditions, Rejection, Result, invalid, reject, unknown,
    },
    request::{Call, HttpResponse, check_permission, check_token, empty, insert_header, response},
    signature::{self, SIGNATURE_PARAMETERS},
    upload::{self, SessionResponse, with_checksums},
};

/// Replace headers of a download.
const OVERRIDES: [(&str, &str); 2] = [
    ("response-content-disposition", "content-disposition"),
    ("response-content-type", "content-type"),
];

/// Answers a call for an object.
pub(super) fn handle(
    service: &mut Service,
    call: &Call<'_>,
    bucket: &str,
    name: &str,
) -> HttpResponse {
    let result = authenticate(service, call, bucket, name)
        .and_then(|()| handle_object(service, call, bucket, name));
    result.unwrap_or_else(|rejection| error(&rejection))
}

/// Checks a signature or a bearer token; the URL of a session needs neither.
fn authenticate(service: &mut Service, call: &Call<'_>, bucket: &str, name: &str) -> Result<()> {
    if call
        .query
        .iter()
        .any(|(name, _)| name.starts_with("X-Goog-"))
    {
        let signed = signature::check(call, bucket, name)?;
        service.signed.push(signed);
        return Ok(());
    }
    if call.parameter("upload_id").is_some() {
        return Ok(());
    }
    check_token(service, call)
}

fn handle_object(
    service: &mut Service,
    call: &Call<'_>,
    bucket: &str,
    name: &str,
) -> Result<HttpResponse> {
    if name.is_empty() {
        return Err(unknown("calls of the XML API for buckets"));
    }
    for (parameter, _) in &call.query {
        let is_override = OVERRIDES.iter().any(|(known, _)| known == parameter);
        let is_known = SIGNATURE_PARAMETERS.contains(&parameter.as_str()) || is_override;
        if !is_known && !matches!(parameter.as_str(), "generation" | "upload_id") {
            return Err(unknown(format!("the parameter {parameter}")));
        }
    }
    let generation = call.number("generation")?;
    let key = ObjectKey {
        bucket,
        name,
        generation,
    };
    let wanted = preconditions(call)?;
    match call.method.as_str() {
        "PUT" | "DELETE" if call.parameter("upload_id").is_some() => {
            match upload::progress(service, call, bucket)? {
                SessionResponse::Incomplete(answer) => Ok(answer),
                SessionResponse::Finished(object, _) => Ok(stored(&object)),
            }
        }
        "GET" | "HEAD" => {
            service.count("xml.get");
            check_permission(service, "storage.objects.get", bucket)?;
            let mut answer = download(service.buckets.get(key, wanted)?, call.header("range"))?;
            for (parameter, header) in OVERRIDES {
                if let Some(value) = call.parameter(parameter) {
                    insert_header(&mut answer, header, value);
                }
            }
            Ok(answer)
        }
        "PUT" => {
            service.count("xml.put");
            check_write(service, bucket, name)?;
            let attributes = attributes(call)?;
            let inserted = service.buckets.insert(
                bucket,
                name,
                call.body.clone().into(),
                &attributes,
                wanted,
            )?;
            Ok(stored(&inserted))
        }
        "POST" if call.header("x-goog-resumable") == Some("start") => {
            service.count("sessions.create");
            check_write(service, bucket, name)?;
            let id = service
                .buckets
                .create_session(bucket, name, attributes(call)?, wanted)?;
            let path =
                percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
            let mut answer = empty(201);
            let location = format!("{}/{bucket}/{path}?upload_id={id}", call.endpoint);
            insert_header(&mut answer, "location", &location);
            Ok(answer)
        }
        "DELETE" => {
            service.count("xml.delete");
            check_permission(service, "storage.objects.delete", bucket)?;
            service.buckets.delete(key, wanted)?;
            Ok(empty(204))
        }
        method => Err(unknown(format!("{method} of an object"))),
    }
}

/// Returns the response to a write, which has no body.
fn stored(object: &Object) -> HttpResponse {
    let mut answer = empty(200);
    insert_header(&mut answer, "etag", &format!("\"{}\"", object.etag()));
    insert_header(
        &mut answer,
        "x-goog-generation",
        &object.generation.to_string(),
    );
    insert_header(
        &mut answer,
        "x-goog-metageneration",
        &object.metageneration.to_string(),
    );
    insert_header(
        &mut answer,
        "x-goog-hash",
        &format!("crc32c={}", object.content.crc32c()),
    );
    answer
}

fn preconditions(call: &Call<'_>) -> Result<Preconditions> {
    let number = |name: &str| {
        let value = call.header(name);
        let number = value.map(|value| {
            value
                .parse()
                .map_err(|_| invalid(format!("Invalid value of {name}")))
        });
        number.transpose()
    };
    Ok(Preconditions {
        generation: number("x-goog-if-generation-match")?,
        metageneration: number("x-goog-if-metageneration-match")?,
        ..Preconditions::default()
    })
}

/// Returns the fields of an object that are in the headers of a write. It checks the length that the signer allows.
fn attributes(call: &Call<'_>) -> Result<Attributes> {
    let (mut attributes, mut metadata) = (Attributes::new(), Attributes::new());
    for (name, value) in call.headers {
        let value = value
            .to_str()
            .map_err(|_| invalid(format!("Invalid value of {name}")))?;
        let field = match name.as_str() {
            "cache-control" => "cacheControl",
            "content-disposition" => "contentDisposition",
            "content-encoding" => "contentEncoding",
            "content-language" => "contentLanguage",
            "content-type" => "contentType",
            "content-md5" => "md5Hash",
            "x-goog-storage-class" => "storageClass",
            "x-goog-content-length-range" => {
                check_length(value, call.body.len() as u64)?;
                continue;
            }
            "x-goog-hash"
            | "x-goog-if-generation-match"
            | "x-goog-if-metageneration-match"
            | "x-goog-resumable" => continue,
            // The client that sent it.
            "x-goog-api-client" => continue,
            name => {
                if let Some(name) = name.strip_prefix("x-goog-meta-") {
                    metadata.insert(name.to_owned(), value.into());
                } else if name.starts_with("x-goog-") {
                    return Err(unknown(format!("the header {name}")));
                }
                continue;
            }
        };
        attributes.insert(field.to_owned(), value.into());
    }
    if !metadata.is_empty() {
        attributes.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Ok(with_checksums(attributes, call))
}

/// `MIN,MAX` in bytes.
fn check_length(range: &str, length: u64) -> Result<()> {
    let parsed = range
        .split_once(',')
        .and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
    let (min, max): (u64, u64) =
        parsed.ok_or_else(|| invalid("Invalid value of x-goog-content-length-range"))?;
    if length < min {
        return Err(reject(
            400,
            "EntityTooSmall",
            "Your proposed upload is smaller than the minimum",
        ));
    }
    if length > max {
        return Err(reject(
            400,
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed object size.",
        ));
    }
    Ok(())
}

/// An error as Google's XML API sends it.
fn error(rejection: &Rejection) -> HttpResponse {
    let code = match (rejection.status, rejection.reason) {
        (_, reason) if reason.starts_with(|first: char| first.is_ascii_uppercase()) => reason,
        (400, _) => "InvalidArgument",
        (401, _) => "AuthenticationRequired",
        (403, _) => "AccessDenied",
        (404, _) => "NoSuchKey",
        (412, _) => "PreconditionFailed",
        (416, _) => "InvalidRange",
        (429, _) => "SlowDown",
        (501, _) => "NotImplemented",
        _ => "InternalError",
    };
    let message = rejection.message.replace('&', "&amp;").replace('<', "&lt;");
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    response(
        rejection.status,
        "application/xml; charset=UTF-8",
        body.into(),
    )
}
