//! `POST /s3/presign`: presigns a client's request for its own upload, for `signRequest` of Uppy 6.

use std::{collections::BTreeMap, time::Duration};

use axum::response::Response;
use http::StatusCode;
use landfall_access::Problem;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Api, ApiError, Call, MAX_BODY,
    companion::{Fields, open, script_headers},
    fields::{self, FileRequest},
    identity::Purpose,
    json, problem,
};
use crate::{
    OpenRequest, Record, Requester, SentHeaders, SignedOperation, SmallFiles, TransferMode,
};

#[derive(Default, Serialize)]
struct Presigned<'a> {
    url: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Fields<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, PartialEq, Eq)]
enum PresignTarget {
    /// Only clients that know the type send the signed headers.
    File {
        knows_type: bool,
    },
    CreateMultipart,
    Multipart(String, SignedOperation),
}

pub(super) async fn presign(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let mut fields = api.object(call, MAX_BODY).await?;
    let (target, key) = parse_target(&mut fields)?;
    let lifetime = fields.remove("expiresIn").as_ref().and_then(fields::count);
    let (mut asked, token) = request_at_key(&key, fields)?;
    let purpose = match &target {
        PresignTarget::Multipart(..) => Purpose::Use,
        _ => Purpose::Open,
    };
    let requester = api.requester(call, token, purpose).await?;
    // Uppy's function sends no header but the type, which other clouds need.
    api.direct().s3()?;
    match target {
        PresignTarget::File { knows_type } => {
            let ours = api.direct().settings();
            let wanted = lifetime.map_or(ours.url_lifetime, Duration::from_secs);
            let lifetime = wanted.clamp(Duration::from_secs(1), ours.url_lifetime);
            whole(api, call, &requester, asked, knows_type, lifetime).await
        }
        PresignTarget::CreateMultipart => {
            asked.mode = TransferMode::SignedMultipart;
            let record = open(api, call, &requester, asked).await?;
            signed(api, &record, SignedOperation::Create).await
        }
        PresignTarget::Multipart(id, act) => {
            let record = api.direct().find(&requester, &key, Some(&id)).await?;
            call.upload = Some(record.id().clone());
            signed(api, &record, act).await
        }
    }
}

/// Presigns a form, which limits the size, if the client can send the form's fields.
async fn whole(
    api: &Api,
    call: &mut Call,
    requester: &Requester,
    mut asked: OpenRequest,
    knows_type: bool,
    lifetime: Duration,
) -> Result<Response, ApiError> {
    asked.mode = match (api.direct().settings().small_files, knows_type) {
        (SmallFiles::Post, true) => TransferMode::Post,
        _ => TransferMode::Put,
    };
    let mode = asked.mode;
    let sent = match knows_type {
        true => SentHeaders::All,
        false => SentHeaders::Unknown,
    };
    asked.headers = sent;
    let record = open(api, call, requester, asked).await?;
    if mode == TransferMode::Post {
        let form = api.direct().sign_post(&record).await?;
        return Ok(json(&Presigned {
            url: &form.url,
            key: &record.object.key,
            fields: Some(Fields(&form.fields)),
            ..Presigned::default()
        }));
    }
    let put = api.direct().presign_upload(&record, lifetime, sent);
    let put = put.await?;
    Ok(json(&Presigned {
        url: &put.url,
        key: &record.object.key,
        headers: script_headers(&put.headers),
        ..Presigned::default()
    }))
}

async fn signed(api: &Api, record: &Record, act: SignedOperation) -> Result<Response, ApiError> {
    let url = api.direct().presign_operation(record, act).await?;
    Ok(json(&Presigned {
        url: &url,
        key: &record.object.key,
        ..Presigned::default()
    }))
}

/// The name of the file is the end of the key.
fn request_at_key(key: &str, mut fields: Map<String, Value>) -> Result<FileRequest, Problem> {
    let stated = match fields.remove("contentType") {
        Some(Value::String(stated)) => Some(stated),
        _ => None,
    };
    let filetype = fields::content_type("contentType", stated)?;
    let key = fields::checked_name("key", key.to_owned())?;
    let name = key.rsplit(['/', '\\']).next().unwrap_or(&key);
    let mut asked = OpenRequest::new(TransferMode::Put, name);
    asked.filetype = filetype;
    asked.size = fields.remove("size").as_ref().and_then(fields::count);
    asked.key = Some(key);
    fields::with_fields(asked, fields)
}

fn parse_target(fields: &mut Map<String, Value>) -> Result<(PresignTarget, String), Problem> {
    let unsupported = || problem::field("method", "Unsupported operation");
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let (Some(method), Some(key)) = (text("method"), text("key")) else {
        let why = "method and key are required";
        return Err(Problem::new(StatusCode::BAD_REQUEST, why));
    };
    let id = text("uploadId");
    let part = match fields.remove("partNumber") {
        None | Some(Value::Null) => None,
        Some(number) => {
            let number = fields::count(&number);
            let number = number.and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|number| (1..=10_000).contains(number));
            let why = "the partNumber must be a number between 1 and 10000";
            Some(number.ok_or_else(|| problem::field("partNumber", why))?)
        }
    };
    let knows_type = fields.get("contentType").is_some_and(Value::is_string);
    let target = match (method.to_ascii_uppercase().as_str(), id, part) {
        ("PUT", None, None) => PresignTarget::File { knows_type },
        ("PUT", Some(id), Some(number)) => {
            PresignTarget::Multipart(id, SignedOperation::Part(number))
        }
        ("POST", None, None) => PresignTarget::CreateMultipart,
        ("POST", Some(id), None) => PresignTarget::Multipart(id, SignedOperation::Complete),
        ("GET", Some(id), None) => PresignTarget::Multipart(id, SignedOperation::List),
        ("DELETE", Some(id), None) => PresignTarget::Multipart(id, SignedOperation::Abort),
        ("DELETE", None, None) => {
            let why = "files cannot be deleted by presigned requests";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        _ => return Err(unsupported()),
    };
    Ok((target, key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<(PresignTarget, String), u16> {
        let Value::Object(mut fields) = body else {
            panic!("no object")
        };
        parse_target(&mut fields).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn targets_are_parsed() {
        let with = |act| PresignTarget::Multipart("u".into(), act);
        for (body, wanted) in [
            (
                json!({"method": "PUT"}),
                PresignTarget::File { knows_type: false },
            ),
            (
                json!({"method": "put", "contentType": "a/b"}),
                PresignTarget::File { knows_type: true },
            ),
            (json!({"method": "POST"}), PresignTarget::CreateMultipart),
            (
                json!({"method": "PUT", "uploadId": "u", "partNumber": 3}),
                with(SignedOperation::Part(3)),
            ),
            (
                json!({"method": "PUT", "uploadId": "u", "partNumber": "3"}),
                with(SignedOperation::Part(3)),
            ),
            (
                json!({"method": "GET", "uploadId": "u"}),
                with(SignedOperation::List),
            ),
            (
                json!({"method": "POST", "uploadId": "u"}),
                with(SignedOperation::Complete),
            ),
            (
                json!({"method": "DELETE", "uploadId": "u"}),
                with(SignedOperation::Abort),
            ),
        ] {
            let mut body = body;
            body["key"] = "k".into();
            assert_eq!(read(body.clone()), Ok((wanted, "k".to_owned())), "{body}");
        }
        for (body, status) in [
            (json!({}), 400),
            (json!({"method": "PUT"}), 400),
            (json!({"key": "k"}), 400),
            (json!({"method": "PUT", "key": ""}), 400),
            (json!({"method": "PUT", "key": 1}), 400),
            (json!({"method": "GET", "key": "k"}), 400),
            (json!({"method": "PATCH", "key": "k"}), 400),
            (json!({"method": "PUT", "key": "k", "uploadId": "u"}), 400),
            (
                json!({"method": "PUT", "key": "k", "uploadId": "u", "partNumber": 0}),
                400,
            ),
            (json!({"method": "PUT", "key": "k", "partNumber": 1}), 400),
            (json!({"method": "DELETE", "key": "k"}), 403),
        ] {
            assert_eq!(read(body.clone()), Err(status), "{body}");
        }
    }

    #[test]
    fn file_names_are_the_end_of_keys() {
        let (asked, _) = request_at_key("dir/uuid-name.png", Map::new())
            .ok()
            .unwrap();
        assert_eq!(asked.filename, "uuid-name.png");
        assert_eq!(asked.key.as_deref(), Some("dir/uuid-name.png"));
        assert_eq!(asked.request_id, None);
    }
}
