//! `POST /api/s3_events`: bucket notifications. They only trigger a check against S3.

use std::collections::BTreeSet;

use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use landfall_access::{Problem, auth::bearer, request_id};
use landfall_state::queue::TokenHash;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{Api, ApiError, Call, MAX_LIST_BODY, Query, json};
use crate::DirectError;

const MAX_CONCURRENCY: usize = 8;

pub(super) async fn handle(api: &Api, call: &mut Call) -> Result<Response, ApiError> {
    let Some(secret) = &api.settings.notifications_secret else {
        let why = "bucket notifications are disabled; enable them with \
                   --direct-notifications-secret";
        return Err(Problem::new(StatusCode::NOT_FOUND, why).into());
    };
    let secret = secret.borrow().clone();
    check_secret(api, call, &secret)?;
    // Not checked for its type: senders use different ones.
    let body = api.read(call, MAX_LIST_BODY).await?;
    let notification =
        Notification::read(&body).map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why))?;
    let objects = match notification {
        Notification::Objects(objects) => objects,
        Notification::Subscription { topic, url } => {
            tracing::warn!(
                topic,
                url,
                "subscription request from SNS: open this URL to confirm it"
            );
            Vec::new()
        }
    };
    let received = objects.len();
    let unique: BTreeSet<_> = objects.into_iter().collect();
    let checks = stream::iter(unique).map(|(bucket, key)| async move {
        let found = Box::pin(api.direct().on_notification(&bucket, &key)).await;
        found.map_err(|error| (key, error))
    });
    let found: Vec<_> = checks.buffer_unordered(MAX_CONCURRENCY).collect().await;
    let mut matched = 0_usize;
    let mut later = None;
    for found in found {
        match found {
            Ok(true) => matched += 1,
            Ok(false) => {}
            Err((_, error)) if is_transient(&error) => later = Some(error),
            Err((key, error)) => {
                matched += 1;
                let about = request_id(&call.parts);
                tracing::debug!(%error, key, requestId = about, "notification about an invalid file");
            }
        }
    }
    match later {
        // The sender retries.
        Some(error) => {
            // Logs the cause.
            let _ = call.problem(error.into());
            let why = "not all objects could be checked; send the notification again";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into())
        }
        None => Ok(json(&json!({"received": received, "matched": matched}))),
    }
}

fn is_transient(error: &DirectError) -> bool {
    match error {
        DirectError::Storage(_)
        | DirectError::Queue(_)
        | DirectError::Database(_)
        | DirectError::Locked => true,
        DirectError::Hook(declined) => declined.cause.is_some(),
        _ => false,
    }
}

fn check_secret(api: &Api, call: &Call, secret: &TokenHash) -> Result<(), Problem> {
    let query = Query::new(call.parts.uri.query());
    let said = match bearer(&call.parts.headers) {
        Some(said) => Some(said.to_owned()),
        None => query.single("token")?.map(std::borrow::Cow::into_owned),
    };
    // Comparing hashes in constant time reveals neither the secret nor its length.
    match said {
        Some(said) if TokenHash::from_secret(&said) == *secret => Ok(()),
        said => {
            let (callers, client) = (&api.settings.authenticator, api.client(&call.parts));
            if said.is_some()
                && let Err(wait) = callers.record_failure(&call.parts, client, None)
            {
                let why = "too many wrong secrets; try again later";
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, why).retry_after(wait));
            }
            let why = "the notification secret is missing or wrong";
            let problem = Problem::new(StatusCode::UNAUTHORIZED, why);
            let challenge = HeaderValue::from_static("Bearer");
            Err(problem.with_header(header::WWW_AUTHENTICATE, challenge))
        }
    }
}

const MAX_OBJECTS: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notification {
    /// Bucket and key.
    Objects(Vec<(String, String)>),
    Subscription {
        topic: String,
        url: String,
    },
}

impl Notification {
    /// S3's format as SQS, Lambda and others forward it, MinIO, EventBridge or SNS.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let notification = serde_json::from_slice(text);
        let notification: Value =
            notification.map_err(|error| format!("the request is not JSON: {error}"))?;
        Self::parse(&notification, true)
    }

    fn parse(notification: &Value, can_be_wrapped: bool) -> Result<Self, String> {
        match text(notification, "Type") {
            Some("Notification") if can_be_wrapped => {
                let inner = text(notification, "Message").unwrap_or_default();
                let inner = serde_json::from_str(inner);
                let inner: Value =
                    inner.map_err(|error| format!("the Message of SNS is not JSON: {error}"))?;
                return Self::parse(&inner, false);
            }
            Some("SubscriptionConfirmation") => {
                let shown = |name| text(notification, name).unwrap_or_default().to_owned();
                return Ok(Self::Subscription {
                    topic: shown("TopicArn"),
                    url: shown("SubscribeURL"),
                });
            }
            Some("UnsubscribeConfirmation") => return Ok(Self::objects(None)),
            _ => {}
        }
        if text(notification, "Event") == Some("s3:TestEvent") {
            return Ok(Self::objects(None));
        }
        if let Some(Value::Array(records)) = notification.get("Records") {
            return match records.len() <= MAX_OBJECTS {
                true => Ok(Self::objects(records.iter().filter_map(record))),
                false => Err(format!(
                    "at most {MAX_OBJECTS} records may be sent at a time"
                )),
            };
        }
        if let (Some(event), Some(object)) =
            (text(notification, "EventName"), text(notification, "Key"))
        {
            let object = is_creation(event).then(|| object.split_once('/')).flatten();
            let object = object.and_then(|(bucket, key)| named(bucket, key));
            return Ok(Self::objects(object));
        }
        let detail = notification.get("detail");
        if let (Some(event), Some(detail)) = (text(notification, "detail-type"), detail) {
            let object = (event == "Object Created").then(|| {
                // EventBridge does not encode keys.
                let bucket = text(detail.get("bucket")?, "name")?;
                named(bucket, text(detail.get("object")?, "key")?)
            });
            return Ok(Self::objects(object.flatten()));
        }
        Err("unknown notification format: no Records of S3, MinIO, EventBridge or SNS".to_owned())
    }

    fn objects(objects: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::Objects(objects.into_iter().collect())
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// MinIO sends `s3:ObjectCreated:…`.
fn is_creation(event: &str) -> bool {
    let event = event.strip_prefix("s3:").unwrap_or(event);
    event.starts_with("ObjectCreated:")
}

/// The key is form-encoded.
fn record(record: &Value) -> Option<(String, String)> {
    if !is_creation(text(record, "eventName")?) {
        return None;
    }
    let s3 = record.get("s3")?;
    let bucket = text(s3.get("bucket")?, "name")?;
    let key = text(s3.get("object")?, "key")?.replace('+', " ");
    let key = percent_decode_str(&key).decode_utf8().ok()?;
    named(bucket, &key)
}

fn named(bucket: &str, key: &str) -> Option<(String, String)> {
    let is_name = !bucket.is_empty() && !key.is_empty();
    is_name.then(|| (bucket.to_owned(), key.to_owned()))
}

#[cfg(test)]
mod read_tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(notification: &Value) -> Result<Notification, String> {
        Notification::read(notification.to_string().as_bytes())
    }

    fn objects(of: &[(&str, &str)]) -> Notification {
        let objects = of
            .iter()
            .map(|(bucket, key)| ((*bucket).into(), (*key).into()));
        Notification::Objects(objects.collect())
    }

    fn record(event: &str, key: &str) -> Value {
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1",
            "eventTime": "2026-11-20T18:00:00.000Z", "eventName": event,
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "c",
                "bucket": {"name": "b", "arn": "arn:aws:s3:::b"},
                "object": {"key": key, "size": 3, "eTag": "x", "sequencer": "0055AED6DCD90281E5"},
            },
        })
    }

    #[test]
    fn records_of_s3_are_parsed() {
        let notification = json!({"Records": [
            record("ObjectCreated:Put", "uploads/1/my+file%2B%C3%BC.txt"),
            record("ObjectCreated:CompleteMultipartUpload", "k"),
            record("ObjectRemoved:Delete", "gone"),
            record("ObjectCreated:Post", "bad%ff"),
            {"eventName": "ObjectCreated:Put"},
            7,
        ]});
        let wanted = objects(&[("b", "uploads/1/my file+ü.txt"), ("b", "k")]);
        assert_eq!(read(&notification), Ok(wanted.clone()));
        // Wrapped by SNS.
        let wrapped = json!({
            "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x:1:t",
            "Subject": "Amazon S3 Notification", "Message": notification.to_string(),
        });
        assert_eq!(read(&wrapped), Ok(wanted));
        let twice = json!({"Type": "Notification", "Message": wrapped.to_string()});
        assert!(read(&twice).is_err());
    }

    #[test]
    fn formats_of_other_services_are_parsed() {
        let minio = json!({
            "EventName": "s3:ObjectCreated:Put", "Key": "b/uploads/my file.txt",
            "Records": [record("s3:ObjectCreated:Put", "uploads%2Fmy+file.txt")],
        });
        let wanted = objects(&[("b", "uploads/my file.txt")]);
        assert_eq!(read(&minio), Ok(wanted.clone()));
        let bare = json!({"EventName": "s3:ObjectCreated:Put", "Key": "b/uploads/my file.txt"});
        assert_eq!(read(&bare), Ok(wanted.clone()));
        let bridge = json!({
            "version": "0", "id": "i", "detail-type": "Object Created", "source": "aws.s3",
            "detail": {"bucket": {"name": "b"}, "object": {"key": "uploads/my file.txt", "size": 3}},
        });
        assert_eq!(read(&bridge), Ok(wanted));
        let gone = json!({"detail-type": "Object Deleted", "detail": {}});
        assert_eq!(read(&gone), Ok(Notification::Objects(Vec::new())));
    }

    #[test]
    fn other_events_are_ignored_and_unknown_formats_rejected() {
        let test = json!({
            "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b", "RequestId": "r",
        });
        for nothing in [
            test.clone(),
            json!({"Type": "Notification", "Message": test.to_string()}),
            json!({"Type": "UnsubscribeConfirmation"}),
            json!({"Records": []}),
        ] {
            assert_eq!(
                read(&nothing),
                Ok(Notification::Objects(Vec::new())),
                "{nothing}"
            );
        }
        let confirm = json!({
            "Type": "SubscriptionConfirmation", "TopicArn": "t", "SubscribeURL": "https://sns/x",
        });
        let wanted = Notification::Subscription {
            topic: "t".into(),
            url: "https://sns/x".into(),
        };
        assert_eq!(read(&confirm), Ok(wanted));
        for invalid in [
            json!(null),
            json!([]),
            json!({}),
            json!({"Records": 7}),
            json!({"Type": "Notification", "Message": "hello"}),
            json!({"Type": "Notification"}),
            json!({"Records": vec![record("ObjectCreated:Put", "k"); 1001]}),
        ] {
            assert!(read(&invalid).is_err());
        }
        assert!(Notification::read(b"{").is_err());
    }

    proptest! {
        #[test]
        fn keys_round_trip(key in "[^\u{0}]{1,40}") {
            let written: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
            let notification = json!({"Records": [record("ObjectCreated:Put", &written)]});
            prop_assert_eq!(read(&notification), Ok(objects(&[("b", &key)])));
        }
    }
}
