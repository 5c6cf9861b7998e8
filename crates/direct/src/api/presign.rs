//! `POST /s3/presign`: signs what a client wants to do itself with its own upload, as `signRequest` of
//! Uppy 6 asks for.

use std::{collections::BTreeMap, time::Duration};

use axum::response::Response;
use http::{StatusCode, request::Parts};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Api, Call,
    body::{USUAL, json},
    companion::Fields,
    fields::{self, File},
    identity::Purpose,
    problem::Problem,
    refusal,
    sign::{open, sent},
};
use crate::{Act, Record, Small, Way, Who};

/// What is answered.
#[derive(Serialize)]
struct Presigned<'a> {
    url: &'a str,
    /// The key that it is for: the client's own, below what its caller's keys begin with.
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Fields<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
}

/// What is to be signed.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// A whole file. Only clients that say its type will send what is signed with it.
    Whole { says_type: bool },
    /// The beginning of a multipart upload.
    Begin,
    /// Something with a multipart upload.
    With(String, Act),
}

pub(super) async fn presign(api: &Api, mut call: Call) -> Result<Response, Problem> {
    if !api.direct().settings().sign_requests {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "this server signs no requests of clients; --direct-sign-requests makes it do so",
        ));
    }
    let body = std::mem::take(&mut call.body);
    let mut fields = api.object(&call.parts.headers, body, USUAL).await?;
    let (wanted, key) = wanted(&mut fields)?;
    let lifetime = fields.remove("expiresIn").as_ref().and_then(fields::count);
    let mut file = file(&key, fields)?;
    let purpose = match &wanted {
        Wanted::With(..) => Purpose::Use,
        _ => Purpose::Open,
    };
    let who = api
        .who(&mut call.parts, file.stated.take(), purpose)
        .await?;
    let response = match wanted {
        Wanted::Whole { says_type } => {
            let ours = api.direct().settings();
            let asked = lifetime.map_or(ours.lifetime, Duration::from_secs);
            let lifetime = asked.clamp(Duration::from_secs(1), ours.lifetime);
            whole(api, &mut call, &who, file, says_type, lifetime).await?
        }
        Wanted::Begin => {
            let way = Way::SignedMultipart;
            let record = open(api, &mut call, &who, asked(file, way, &key)).await?;
            signed(api, &call.parts, &record, Act::Begin).await?
        }
        Wanted::With(id, act) => {
            let found = api.direct().find(&who, &key, Some(&id)).await;
            let record = found.map_err(|error| call.refuse(error))?;
            signed(api, &call.parts, &record, act).await?
        }
    };
    Ok(response)
}

/// A whole file: by a form, which bounds its size, if the client says what such a form has to hold.
async fn whole(
    api: &Api,
    call: &mut Call,
    who: &Who,
    file: File,
    says_type: bool,
    lifetime: Duration,
) -> Result<Response, Problem> {
    let way = match (api.direct().settings().small, says_type) {
        (Small::Post, true) => Way::Post,
        _ => Way::Put,
    };
    let key = file.name.clone();
    let record = open(api, call, who, asked(file, way, &key)).await?;
    let refuse = |error| refusal(&call.parts, Some(record.id()), error);
    if way == Way::Post {
        let form = api.direct().form(&record).await.map_err(refuse)?;
        return Ok(json(&Presigned {
            url: &form.url,
            key: &record.place.key,
            fields: Some(Fields(&form.fields)),
            headers: BTreeMap::new(),
        }));
    }
    let put = api.direct().put(&record, lifetime, says_type).await;
    let put = put.map_err(refuse)?;
    Ok(json(&Presigned {
        url: &put.url,
        key: &record.place.key,
        fields: None,
        headers: sent(&put.headers),
    }))
}

async fn signed(api: &Api, parts: &Parts, record: &Record, act: Act) -> Result<Response, Problem> {
    let url = api.direct().sign(record, act).await;
    let url = url.map_err(|error| refusal(parts, Some(record.id()), error))?;
    Ok(json(&Presigned {
        url: &url,
        key: &record.place.key,
        fields: None,
        headers: BTreeMap::new(),
    }))
}

/// The file at a key of its client's choice.
fn asked(mut file: File, way: Way, key: &str) -> crate::Asked {
    file.name = key.rsplit(['/', '\\']).next().unwrap_or(key).to_owned();
    let mut asked = file.asked(way);
    asked.key = Some(key.to_owned());
    asked
}

/// What is said of the file, whose name is the whole key as yet.
fn file(key: &str, mut fields: Map<String, Value>) -> Result<File, Problem> {
    let stated = match fields.remove("contentType") {
        Some(Value::String(stated)) => Some(stated),
        _ => None,
    };
    let kind = fields::kind("contentType", stated)?;
    let size = fields.remove("size").as_ref().and_then(fields::count);
    let name = fields::checked_name("key", key.to_owned())?;
    File::rest(name, kind, size, fields)
}

/// Reads what is to be signed, and for which key.
fn wanted(fields: &mut Map<String, Value>) -> Result<(Wanted, String), Problem> {
    let unsupported = || Problem::field("method", "Unsupported operation");
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let (Some(method), Some(key)) = (text("method"), text("key")) else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "method and key are required",
        ));
    };
    let id = text("uploadId");
    let part = match fields.remove("partNumber") {
        None | Some(Value::Null) => None,
        Some(number) => {
            let number = fields::count(&number);
            let number = number.and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|number| (1..=10_000).contains(number));
            Some(number.ok_or_else(|| {
                Problem::field(
                    "partNumber",
                    "the partNumber must be a number between 1 and 10000",
                )
            })?)
        }
    };
    let says_type = fields.get("contentType").is_some_and(Value::is_string);
    let wanted = match (method.to_ascii_uppercase().as_str(), id, part) {
        ("PUT", None, None) => Wanted::Whole { says_type },
        ("PUT", Some(id), Some(number)) => Wanted::With(id, Act::Part(number)),
        ("POST", None, None) => Wanted::Begin,
        ("POST", Some(id), None) => Wanted::With(id, Act::Complete),
        ("GET", Some(id), None) => Wanted::With(id, Act::List),
        ("DELETE", Some(id), None) => Wanted::With(id, Act::Abort),
        ("DELETE", None, None) => {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "files are not deleted this way",
            ));
        }
        _ => return Err(unsupported()),
    };
    Ok((wanted, key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<(Wanted, String), u16> {
        let Value::Object(mut fields) = body else {
            panic!("no object")
        };
        wanted(&mut fields).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn what_is_signed() {
        let with = |act| Wanted::With("u".into(), act);
        for (body, wanted) in [
            (json!({"method": "PUT"}), Wanted::Whole { says_type: false }),
            (
                json!({"method": "put", "contentType": "a/b"}),
                Wanted::Whole { says_type: true },
            ),
            (json!({"method": "POST"}), Wanted::Begin),
            (
                json!({"method": "PUT", "uploadId": "u", "partNumber": 3}),
                with(Act::Part(3)),
            ),
            (
                json!({"method": "PUT", "uploadId": "u", "partNumber": "3"}),
                with(Act::Part(3)),
            ),
            (json!({"method": "GET", "uploadId": "u"}), with(Act::List)),
            (
                json!({"method": "POST", "uploadId": "u"}),
                with(Act::Complete),
            ),
            (
                json!({"method": "DELETE", "uploadId": "u"}),
                with(Act::Abort),
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
    fn files_at_keys() {
        let file = file("dir/uuid-name.png", Map::new()).ok().unwrap();
        let asked = asked(file, Way::Put, "dir/uuid-name.png");
        assert_eq!(asked.filename, "uuid-name.png");
        assert_eq!(asked.key.as_deref(), Some("dir/uuid-name.png"));
        assert_eq!(asked.request_id, None);
    }
}
