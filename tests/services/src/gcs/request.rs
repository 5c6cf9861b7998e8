//! Requests and responses of the fake: reads paths and queries, checks the bearer token and permissions, and forms errors as
//! Google's JSON API does. It decides which part of the fake is called, and holds no objects.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{
    Service, batch,
    content::Content,
    json,
    objects::{Preconditions, Rejection, Result, invalid, reject, unknown},
    tokens, upload, xml,
};

pub(super) type HttpResponse = Response<Content>;

/// Parameters of any call that change nothing here: `fields` is ignored, as the answer has at least those.
const COMMON_PARAMETERS: [&str; 6] = [
    "alt",
    "fields",
    "key",
    "prettyPrint",
    "projection",
    "quotaUser",
];
const PRECONDITIONS: [&str; 4] = [
    "ifGenerationMatch",
    "ifGenerationNotMatch",
    "ifMetagenerationMatch",
    "ifMetagenerationNotMatch",
];

/// A request with its path and query decoded.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    /// Each is decoded: a slash within a name is `%2F`.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
    /// The scheme and authority that the client used, which may be a proxy's.
    pub(super) endpoint: String,
}

impl<'a> Call<'a> {
    pub(super) fn new(head: &'a Parts, body: Bytes) -> Self {
        let path = head.uri.path().trim_start_matches('/').split('/');
        let path = path.map(|piece| percent_decode_str(piece).decode_utf8_lossy().into_owned());
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let host = head
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        Self {
            method: &head.method,
            path: path.collect(),
            query: query.into_owned().collect(),
            headers: &head.headers,
            body,
            endpoint: format!("http://{}", host.unwrap_or_default()),
        }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs.find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        let value = self.parameter(name);
        let number = value.map(|value| {
            value
                .parse()
                .map_err(|_| invalid(format!("Invalid value for: {name}")))
        });
        number.transpose()
    }

    pub(super) fn preconditions(&self) -> Result<Preconditions> {
        Ok(Preconditions {
            generation: self.number("ifGenerationMatch")?,
            not_generation: self.number("ifGenerationNotMatch")?,
            metageneration: self.number("ifMetagenerationMatch")?,
            not_metageneration: self.number("ifMetagenerationNotMatch")?,
        })
    }

    /// Fails for a parameter that is not one of these, nor one of all calls or a precondition.
    pub(super) fn expect_parameters(&self, known: &[&str]) -> Result<()> {
        for (name, _) in &self.query {
            let name = name.as_str();
            if !known.contains(&name)
                && !COMMON_PARAMETERS.contains(&name)
                && !PRECONDITIONS.contains(&name)
            {
                return Err(unknown(format!("the parameter {name} of {:?}", self.path)));
            }
        }
        Ok(())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads a body of JSON; none is an empty object.
    pub(super) fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        let content_type = self.header("content-type").unwrap_or_default();
        parse_json(content_type, &self.body)
    }

    pub(super) fn is_media(&self) -> bool {
        self.parameter("alt") == Some("media")
    }
}

/// Parses an object of JSON with its content type.
pub(super) fn parse_json(content_type: &str, body: &[u8]) -> Result<Value> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let message =
            format!("Media type '{kind}' is not supported. Valid media types: [application/json].");
        return Err(reject(400, "badContent", message));
    }
    let value = serde_json::from_slice(body).ok().filter(Value::is_object);
    value.ok_or_else(|| reject(400, "parseError", "Parse Error"))
}

/// Answers a request.
pub(super) fn handle(service: &mut Service, head: &Parts, body: Bytes) -> HttpResponse {
    let call = Call::new(head, body);
    if let Some(response) = tokens::handle(service, &call) {
        return response;
    }
    let path: Vec<_> = call.path.iter().map(String::as_str).collect();
    match &*path {
        ["batch", "storage", "v1"] => {
            batch::handle(service, &call).unwrap_or_else(|rejection| error(&rejection))
        }
        ["storage" | "upload" | "download", ..] => handle_json(service, &call),
        [bucket, key @ ..] if !bucket.is_empty() => {
            xml::handle(service, &call, bucket, &key.join("/"))
        }
        _ => error(&unknown(format!("{} {}", call.method, head.uri.path()))),
    }
}

/// Answers a call of the JSON API.
pub(super) fn handle_json(service: &mut Service, call: &Call<'_>) -> HttpResponse {
    let path: Vec<_> = call.path.iter().map(String::as_str).collect();
    let result = match &*path {
        // The URL of a session is its credential.
        ["upload", "storage", "v1", "b", bucket, "o"] if call.parameter("upload_id").is_some() => {
            upload::continue_session(service, call, bucket)
        }
        ["upload", "storage", "v1", "b", bucket, "o"] => {
            check_token(service, call).and_then(|()| upload::insert(service, call, bucket))
        }
        ["download", "storage", "v1", rest @ ..] if call.is_media() => {
            check_token(service, call).and_then(|()| json::handle(service, call, rest))
        }
        ["storage", "v1", rest @ ..] => {
            check_token(service, call).and_then(|()| json::handle(service, call, rest))
        }
        _ => Err(reject(404, "notFound", "Not Found")),
    };
    result.unwrap_or_else(|rejection| {
        let is_read = call.method == Method::GET;
        let is_unchanged = call
            .parameter("ifGenerationNotMatch")
            .or(call.parameter("ifMetagenerationNotMatch"));
        match rejection.status {
            // Reads of what the client has already.
            412 if is_read && is_unchanged.is_some() => empty(304),
            _ if is_read && call.is_media() => text(rejection.status, &rejection.message),
            _ => error(&rejection),
        }
    })
}

pub(super) fn check_token(service: &Service, call: &Call<'_>) -> Result<()> {
    if let Some(refusal) = &service.refusal {
        return Err(reject(refusal.status, refusal.reason, refusal.message));
    }
    let Some(authorization) = call.header("authorization") else {
        if service.is_public && call.method == Method::GET {
            return Ok(());
        }
        let message = "Anonymous caller does not have storage.objects access to the Google Cloud Storage object. Permission \
                       denied on resource (or it may not exist).";
        return Err(reject(401, "required", message));
    };
    if authorization.strip_prefix("Bearer ") == Some(service.tokens.current()) {
        return Ok(());
    }
    Err(reject(401, "authError", "Invalid Credentials"))
}

pub(super) fn check_permission(service: &Service, permission: &str, bucket: &str) -> Result<()> {
    if !service.denied.contains(permission) {
        return Ok(());
    }
    let message = format!(
        "{} does not have {permission} access to the Google Cloud Storage bucket {bucket}. Permission '{permission}' denied on \
         resource (or it may not exist).",
        tokens::ACCOUNT
    );
    Err(reject(403, "forbidden", message))
}

pub(super) fn response(status: u16, content_type: &str, content: Content) -> HttpResponse {
    let mut response = empty(status);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, content.size().into());
    insert_header(&mut response, "content-type", content_type);
    *response.body_mut() = content;
    response
}

pub(super) fn empty(status: u16) -> HttpResponse {
    let mut response = Response::new(Content::default());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if !matches!(status, 204 | 304) {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, 0.into());
    }
    response
}

/// Sets a header, unless its value cannot be in one.
pub(super) fn insert_header(response: &mut HttpResponse, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

pub(super) fn json_response(status: u16, value: &Value) -> HttpResponse {
    response(
        status,
        "application/json; charset=UTF-8",
        value.to_string().into(),
    )
}

pub(super) fn text(status: u16, text: &str) -> HttpResponse {
    response(status, "text/html; charset=UTF-8", text.to_owned().into())
}

/// An error as Google's JSON API sends it.
pub(super) fn error(rejection: &Rejection) -> HttpResponse {
    let Rejection {
        status,
        reason,
        message,
    } = rejection;
    let mut response = json_response(
        *status,
        &json!({"error": {
            "code": status,
            "message": message,
            "errors": [{"message": message, "domain": "global", "reason": reason}],
        }}),
    );
    if *status == 401 {
        insert_header(
            &mut response,
            "www-authenticate",
            r#"Bearer realm="https://accounts.google.com/""#,
        );
    }
    response
}
