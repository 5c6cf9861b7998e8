//! Files that one presigned PUT sends.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::{post, route, send_content};
use crate::{Completed, Error, http::Request, upload::OpenedUpload};

#[derive(Deserialize)]
struct SignedPut {
    file_type: String,
    signed_request: Url,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct CompletedPut {
    location: Url,
    size: u64,
    #[serde(default)]
    message: String,
}

pub(super) async fn run(run: OpenedUpload, length: u64) -> Result<Completed, Error> {
    let sign = route(&run.endpoint, "api/sign_s3")?;
    let complete = route(&run.endpoint, "api/complete_s3")?;
    let mut fields = described(&run);
    fields.insert("file_size".into(), length.into());
    fields.insert("send_headers".into(), true.into());
    let fields = Value::Object(fields);
    let (run, session) = (&run, &run.sender.session);
    // A signature is used once: each attempt gets another one for the same object.
    let (sign, fields) = (&sign, &fields);
    let url = session
        .retried(run.client.backoff(), || async move {
            let signed: SignedPut = post(session, sign, fields).await?;
            let mut request = Request::new(Method::PUT, signed.signed_request);
            let pairs = signed.headers.iter();
            let own = [("content-type", signed.file_type.as_str())];
            for (name, value) in own
                .into_iter()
                .chain(pairs.map(|(n, v)| (n.as_str(), v.as_str())))
            {
                let invalid =
                    || Error::Protocol(format!("the header {name} of the signature is invalid"));
                let name: HeaderName = name.parse().map_err(|_| invalid())?;
                let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
                request.headers.insert(name, value);
            }
            request
                .headers
                .insert(header::CONTENT_LENGTH, length.into());
            match send_content(run, request, 0, length).await {
                Ok(_) => Ok(signed.url),
                // The object exists: the response to an earlier attempt was lost.
                Err(Error::Rejected(rejection)) if rejection.status == 412 => Ok(signed.url),
                Err(error) => Err(error),
            }
        })
        .await?;
    session.meter.acknowledge(0, length);
    let reference = json!({ "url": url });
    let done: CompletedPut = session
        .retried(run.client.backoff(), || {
            post(session, &complete, &reference)
        })
        .await?;
    if done.size != length {
        return Err(Error::Protocol(format!(
            "the object has {} bytes, the source {length}",
            done.size
        )));
    }
    Ok(Completed {
        url: done.location,
        length: done.size,
        bytes_sent: session.meter.transferred(),
        requests: session.requests(),
        resumed_from: 0,
        response: done.message.into_bytes(),
    })
}

/// Returns the fields that describe a file.
fn described(run: &OpenedUpload) -> Map<String, Value> {
    let settings = &run.settings;
    let mut fields = Map::new();
    let name = settings.metadata_text("filename").unwrap_or("file");
    fields.insert("file_name".into(), name.into());
    if let Some(media_type) = settings.metadata_text("filetype") {
        fields.insert("file_type".into(), media_type.into());
    }
    fields.insert(
        "metadata".into(),
        super::multipart::other_metadata(settings),
    );
    if settings.token.is_none() {
        // The same object for each attempt. A token does that, too.
        let id = format!("{:032x}", rand::random::<u128>());
        fields.insert("request_id".into(), id.into());
    }
    fields
}
