use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use crate::{HookName, HookResponse};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    samples::{TRACEPARENT, samples, traced},
    *,
};

/// The example in tusd's documentation, as tusd 2 sends it.
const V2: &str = concat!(
    r#"{"Type":"post-finish","Event":{"Upload":{"ID":"5d892c228ec8d0451dfec588697e8930","#,
    r#""Size":432724,"SizeIsDeferred":false,"Offset":432724,"#,
    r#""MetaData":{"filename":"a.png","filetype":"image/png"},"#,
    r#""IsPartial":false,"IsFinal":false,"PartialUploads":null,"#,
    r#""Storage":{"InfoPath":"/data/5d89.info","Path":"/data/5d89","Type":"filestore"}},"#,
    r#""HTTPRequest":{"Method":"PATCH","URI":"/files/5d892c228ec8d0451dfec588697e8930","#,
    r#""RemoteAddr":"127.0.0.1:59395","#,
    r#""Header":{"Host":["localhost:8080"],"Tus-Resumable":["1.0.0"],"Upload-Offset":["0"]}}}}"#,
);

fn sample(hook: HookName) -> Message {
    let mut all = samples().into_iter();
    all.find(|message| message.hook == hook).unwrap()
}

fn finished() -> Message {
    let mut message = sample(HookName::PostFinish);
    let storage = message.upload.storage.as_mut().unwrap();
    storage.insert("InfoPath".into(), "/data/5d89.info".into());
    storage.insert("Path".into(), "/data/5d89".into());
    let headers = &mut message.request.headers;
    headers.remove("Content-Type");
    headers.remove("Content-Length");
    message
}

fn written(format: Format, message: &Message) -> String {
    String::from_utf8(body(format, message)).unwrap()
}

#[test]
fn v2_body_is_byte_identical_to_tusd() {
    assert_eq!(written(Format::V2, &finished()), V2);
}

#[test]
fn v1_body_is_the_event_alone() {
    let event = V2.split_once(r#""Event":"#).unwrap().1;
    let event = event.strip_suffix('}').unwrap();
    assert_eq!(written(Format::V1, &finished()), event);
}

#[test]
fn auto_body_contains_both_formats() {
    let (start, event) = (
        V2.strip_suffix('}').unwrap(),
        written(Format::V1, &finished()),
    );
    let both = format!("{start},{}", event.strip_prefix('{').unwrap());
    assert_eq!(written(Format::Auto, &finished()), both);
}

#[test]
fn fields_are_empty_before_creation_and_without_a_request() {
    let mut message = sample(HookName::PreCreate);
    message.upload.size = None;
    message.upload.metadata.clear();
    message.upload.is_final = true;
    message.upload.parts = Some(vec!["a".into(), "b".into()]);
    message.request = crate::RequestData::default();
    assert_eq!(
        written(Format::V1, &message),
        concat!(
            r#"{"Upload":{"ID":"","Size":0,"SizeIsDeferred":true,"Offset":0,"MetaData":{},"#,
            r#""IsPartial":false,"IsFinal":true,"PartialUploads":["a","b"],"Storage":null},"#,
            r#""HTTPRequest":{"Method":"","URI":"","RemoteAddr":"","Header":{}}}"#,
        )
    );
}

#[test]
fn landfall_fields_are_omitted_when_unset() {
    let mut message = finished();
    message.upload.labels = BTreeMap::from([("tenant".to_owned(), "7".to_owned())]);
    let labelled = V2.replace(
        r#""filestore"}}"#,
        r#""filestore"},"Labels":{"tenant":"7"}}"#,
    );
    assert_eq!(written(Format::V2, &message), labelled);

    let access: Value =
        serde_json::from_slice(&body(Format::V2, &sample(HookName::PreAccess))).unwrap();
    assert_eq!(access["Event"]["Intent"], "write");
    assert_eq!(access["Event"]["Upload"]["SizeIsDeferred"], false);
}

#[test]
fn job_events_contain_job_and_upload() {
    let started = written(Format::V2, &sample(HookName::UploadStarted));
    let job = concat!(
        r#""Job":{"RequestID":"cjp0a1b2c","Subject":"ann","State":"started","Reason":null,"#,
        r#""Filename":"a.png","Filetype":"image/png","Size":432724,"Offset":0,"#,
        r#""MetaData":{"album":7},"CreatedAt":"2026-11-20T12:00:00Z","#,
        r#""ExpiresAt":"2026-11-20T13:00:00Z","StartedAt":"2026-11-20T12:00:01Z","#,
        r#""UpdatedAt":"2026-11-20T12:00:12.5Z","EndedAt":null}"#,
    );
    assert!(started.ends_with(&format!(",{job}}}}}")), "{started}");
    let v1 = written(Format::V1, &sample(HookName::UploadStarted));
    assert!(v1.ends_with(&format!(",{job}}}")), "{v1}");
    // The ETag is present only if the store has one.
    let mut completed = sample(HookName::UploadCompleted);
    let bare = written(Format::V2, &completed);
    assert!(!bare.contains("ETag"), "{bare}");
    completed.job.as_mut().unwrap().etag = Some("\"5d41\"".into());
    let completed = written(Format::V2, &completed);
    let etag = r#""Offset":432724,"ETag":"\"5d41\"","MetaData":{"album":7}"#;
    assert!(completed.contains(etag), "{completed}");
}

#[test]
fn redacted_headers_are_not_serialized() {
    let mut message = sample(HookName::PreGrant);
    let secret = [("Authorization", "Bearer s"), ("Cookie", "id=s")];
    for (name, value) in secret {
        let headers = &mut message.request.headers;
        headers.insert(name.to_owned(), vec![value.to_owned()]);
    }
    let shown = message.clone();
    message.request = message
        .request
        .redact(&["authorization", "COOKIE", "absent"]);
    assert_eq!(message.request.values("Authorization"), ["Bearer s"]);
    assert_eq!(message.request.header("cookie"), Some("id=s"));
    for format in [Format::V1, Format::V2, Format::Auto] {
        assert!(written(format, &shown).contains("Bearer s"));
        assert!(!written(format, &message).contains("Bearer s"));
    }
    let stored = serde_json::to_string(&message).unwrap();
    assert!(
        !stored.contains("Bearer s") && !stored.contains("id=s"),
        "{stored}"
    );
}

#[test]
fn strings_are_escaped_like_go() {
    let mut message = finished();
    let text = "\" \\ / \u{8} \u{c} \n \r \t \u{0} \u{1f} \u{7f} <b> & \u{2028}\u{2029}\u{2027} \
                \u{fffd}\u{fffc} \u{e9}\u{1f600}";
    let escaped = concat!(
        r#"\" \\ / \b \f \n \r \t \u0000 \u001f "#,
        "\u{7f}",
        r#" \u003cb\u003e \u0026 \u2028\u2029"#,
        "\u{2027}",
        r#" \ufffd"#,
        "\u{fffc} \u{e9}\u{1f600}",
    );
    message.upload.metadata = BTreeMap::from([("<k>".to_owned(), text.to_owned())]);
    let json = written(Format::V2, &message);
    let expected = format!(r#""MetaData":{{"\u003ck\u003e":"{escaped}"}}"#);
    assert!(json.contains(&expected), "{json}");
}

#[test]
fn cloud_event_has_the_specified_attributes() {
    let message = finished();
    let event: Value = serde_json::from_slice(&cloud_event(&message, "/landfall")).unwrap();
    let tusd: Value = serde_json::from_str(V2).unwrap();
    assert_eq!(
        event,
        json!({
            "specversion": "1.0",
            "id": message.id,
            "source": "/landfall",
            "type": "io.landfall.upload.post-finish",
            "subject": "5d892c228ec8d0451dfec588697e8930",
            "time": "2026-11-20T12:00:05Z",
            "datacontenttype": "application/json",
            "sequence": "00001795176005000000",
            "partitionkey": "5d892c228ec8d0451dfec588697e8930",
            "data": tusd["Event"],
        })
    );
    let event = cloud_event(&traced(message), "/landfall");
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(event["traceparent"], TRACEPARENT);
    assert_eq!(event["tracestate"], "vendor=1");
    let progress = sample(HookName::UploadProgress);
    let event: Value = serde_json::from_slice(&cloud_event(&progress, "/landfall")).unwrap();
    assert_eq!(event["type"], "io.landfall.upload.progress");
    assert_eq!(event["subject"], "5d892c228ec8d0451dfec588697e8930");
    assert_eq!(event["partitionkey"], "job:12");
    assert_eq!(event["data"]["Job"]["RequestID"], "cjp0a1b2c");
    let mut expired = sample(HookName::UploadExpired);
    expired.upload.id.clear();
    let event: Value = serde_json::from_slice(&cloud_event(&expired, "/landfall")).unwrap();
    assert_eq!(event["type"], "io.landfall.upload.expired");
    assert_eq!(event["subject"], "job/cjp0a1b2c");
    assert_eq!(event["partitionkey"], "job:12");
    // A subject must not be empty.
    let event = cloud_event(&sample(HookName::PreCreate), "/landfall");
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert!(event.get("subject").is_none() && event.get("partitionkey").is_none());
}

#[test]
fn there_is_one_sample_per_name() {
    let samples = samples();
    let names: Vec<_> = samples.iter().map(|sample| sample.hook).collect();
    assert_eq!(names, HookName::ALL);
    for pair in samples.windows(2) {
        assert!(pair[0].sequence < pair[1].sequence && pair[0].id != pair[1].id);
    }
    assert!(samples.iter().all(|sample| sample.id.len() == 32));
}

fn read(json: &str) -> HookResponse {
    parse_response(json.as_bytes()).unwrap()
}

#[test]
fn parses_the_response_of_tusds_documentation() {
    let response = read(
        r#"{"HTTPResponse":{"StatusCode":400,"Body":"{\"message\":\"no\"}","Header":{"Content-Type":"application/json"}},"RejectUpload":true,"RejectTermination":false,"ChangeFileInfo":{"ID":"a/b","MetaData":{"k":"v"},"Storage":{"Path":"sub/x.pdf"}},"StopUpload":false}"#,
    );
    assert_eq!(
        response.client_response.status,
        Some(http::StatusCode::BAD_REQUEST)
    );
    assert_eq!(
        response.client_response.body.as_deref(),
        Some(&br#"{"message":"no"}"#[..])
    );
    assert_eq!(
        response.client_response.headers["content-type"],
        "application/json"
    );
    assert!(response.reject_upload && !response.reject_termination && !response.stop_upload);
    assert_eq!(response.changes.id.as_deref(), Some("a/b"));
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert_eq!(response.changes.metadata, Some(pair("k", "v")));
    assert_eq!(response.changes.storage, pair("Path", "sub/x.pdf"));
}

#[test]
fn parses_landfall_fields() {
    let response = read(
        r#"{"RejectAccess":true,"CacheFor":"1m30s","RejectTermination":true,"StopUpload":true,
            "ChangeFileInfo":{"Labels":{"tenant":"7"},"Expires":"2026-11-20T12:00:00+01:00",
            "MaxSize":1048576,"ContentTypes":["image/*","text/plain"]}}"#,
    );
    assert!(response.reject_access && response.reject_termination && response.stop_upload);
    assert_eq!(response.cache_for, Some(Duration::from_secs(90)));
    assert_eq!(response.changes.labels["tenant"], "7");
    let expires = UNIX_EPOCH + Duration::from_secs(1_795_172_400);
    assert_eq!(response.changes.expires, Some(expires));
    assert_eq!(response.changes.max_size, Some(1 << 20));
    assert_eq!(response.changes.content_types, ["image/*", "text/plain"]);
}

#[test]
fn unset_fields_change_nothing() {
    for json in [
        "{}",
        "null",
        " \n{ }\n",
        r#"{"HTTPResponse":null,"RejectUpload":null,"ChangeFileInfo":null,"CacheFor":null}"#,
        r#"{"HTTPResponse":{"StatusCode":0,"Body":"","Header":null},"RejectUpload":false}"#,
        r#"{"HTTPResponse":{"StatusCode":null,"Body":null,"Header":{}}}"#,
        r#"{"ChangeFileInfo":{"ID":"","MetaData":null,"Storage":null,"Labels":{},"Expires":"",
            "MaxSize":0,"ContentTypes":[]},"CacheFor":"0s"}"#,
        r#"{"ChangeFileInfo":{"ID":null,"Storage":{},"Labels":null,"Expires":null,"MaxSize":null,
            "ContentTypes":null},"CacheFor":0}"#,
        r#"{"Unknown":[],"ok":false,"HTTPResponse":{"Headers":{}}}"#,
    ] {
        assert_eq!(read(json), HookResponse::default(), "{json}");
    }
    let cleared = read(r#"{"ChangeFileInfo":{"MetaData":{}}}"#);
    assert_eq!(cleared.changes.metadata, Some(BTreeMap::new()));
}

#[test]
fn keys_match_in_any_case_and_the_last_value_applies() {
    let response = read(
        r#"{"rejectUPLOAD":true,"httpresponse":{"STATUSCODE":401,"body":"a"},
            "HTTPResponse":{"Body":"b","Header":{"X-A":"1","x-a":"2"}},
            "changefileinfo":{"metadata":{"A":"1"}},"ChangeFileInfo":{"MetaData":{"a":null}}}"#,
    );
    assert!(response.reject_upload);
    assert_eq!(response.client_response.status.unwrap(), 401);
    assert_eq!(response.client_response.body.as_deref(), Some(&b"b"[..]));
    assert_eq!(response.client_response.headers["x-a"], "2");
    let metadata = response.changes.metadata.unwrap();
    assert_eq!((metadata["A"].as_str(), metadata["a"].as_str()), ("1", ""));
    assert!(read(r#"{"RejectUpload":true,"rejectupload":false}"#).reject_upload);
}

#[test]
fn unknown_fields_are_named() {
    let response = read(
        r#"{"Unknown":[1,{"RejectUpload":true},1e300],"ok":true,"HTTPResponse":{"Headers":{"A":"1"}},
            "ChangeFileInfo":{"Path":"a"}}"#,
    );
    let ignored = "unknown field Unknown, ok, HTTPResponse.Headers, ChangeFileInfo.Path";
    assert_eq!(response.ignored.as_deref(), Some(ignored));
    assert_eq!(
        HookResponse {
            ignored: None,
            ..response
        },
        HookResponse::default()
    );
    let many: Vec<_> = (0..10_000).map(|n| format!("\"\\u001b{n}\":1")).collect();
    let ignored = read(&format!("{{{}}}", many.join(","))).ignored.unwrap();
    assert!(
        ignored.len() < 500 && !ignored.contains('\u{1b}'),
        "{ignored}"
    );
}

#[test]
fn byte_order_mark_is_skipped() {
    assert!(read("\u{feff}{\"RejectUpload\":true}").reject_upload);
    assert!(parse_response(b"\xff\xfe{\0}\0").is_err());
}

#[test]
fn parses_durations() {
    let span = |value: &str| parse_response(format!(r#"{{"CacheFor":{value}}}"#).as_bytes());
    for (value, milliseconds) in [
        (r#""300ms""#, 300),
        (r#""1.5h""#, 5_400_000),
        (r#""2h45m""#, 9_900_000),
        (r#""1m0.5s""#, 60_500),
        ("60", 60_000),
        ("0.25", 250),
    ] {
        let expected = Some(Duration::from_millis(milliseconds));
        assert_eq!(span(value).unwrap().cache_for, expected, "{value}");
    }
    for value in [
        r#""-5s""#,
        "-1",
        "-0.5",
        r#""soon""#,
        r#""5""#,
        "true",
        "1e300",
        "[]",
    ] {
        let error = span(value).unwrap_err().to_string();
        assert!(
            error.starts_with("CacheFor in the response must be a duration"),
            "{error}"
        );
    }
}

#[test]
fn invalid_utf8_is_replaced() {
    let response = parse_response(b"{\"ChangeFileInfo\":{\"ID\":\"a\xffb\"}}").unwrap();
    assert_eq!(response.changes.id.as_deref(), Some("a\u{fffd}b"));
    assert!(matches!(
        parse_response(b"{\"a\":\xff}"),
        Err(ParseError::NotJson(_))
    ));
}

#[test]
fn invalid_responses_name_the_field() {
    for (json, field) in [
        (r#"{"RejectUpload":"true"}"#, "RejectUpload"),
        (r#"{"rejectUpload":1}"#, "rejectUpload"),
        (r#"{"RejectAccess":{}}"#, "RejectAccess"),
        (r#"{"HTTPResponse":"no"}"#, "HTTPResponse"),
        (
            r#"{"HTTPResponse":{"StatusCode":"400"}}"#,
            "HTTPResponse.StatusCode",
        ),
        (
            r#"{"HTTPResponse":{"StatusCode":400.0}}"#,
            "HTTPResponse.StatusCode",
        ),
        (
            r#"{"HTTPResponse":{"StatusCode":-1}}"#,
            "HTTPResponse.StatusCode",
        ),
        (
            r#"{"HTTPResponse":{"StatusCode":100}}"#,
            "HTTPResponse.StatusCode",
        ),
        (
            r#"{"HTTPResponse":{"StatusCode":1000}}"#,
            "HTTPResponse.StatusCode",
        ),
        (r#"{"HTTPResponse":{"Body":{"a":1}}}"#, "HTTPResponse.Body"),
        (
            r#"{"HTTPResponse":{"Header":{"A":["1"]}}}"#,
            "HTTPResponse.Header",
        ),
        (
            r#"{"HTTPResponse":{"Header":{"A B":"1"}}}"#,
            "HTTPResponse.Header",
        ),
        (
            r#"{"HTTPResponse":{"Header":{"A":"1\r\nB: 2"}}}"#,
            "HTTPResponse.Header",
        ),
        (r#"{"HTTPResponse":{"Header":[]}}"#, "HTTPResponse.Header"),
        (r#"{"ChangeFileInfo":[]}"#, "ChangeFileInfo"),
        (r#"{"ChangeFileInfo":{"ID":7}}"#, "ChangeFileInfo.ID"),
        (
            r#"{"ChangeFileInfo":{"MetaData":{"a":1}}}"#,
            "ChangeFileInfo.MetaData",
        ),
        (
            r#"{"ChangeFileInfo":{"Storage":"x"}}"#,
            "ChangeFileInfo.Storage",
        ),
        (
            r#"{"ChangeFileInfo":{"Labels":["x"]}}"#,
            "ChangeFileInfo.Labels",
        ),
        (
            r#"{"ChangeFileInfo":{"Expires":"tomorrow"}}"#,
            "ChangeFileInfo.Expires",
        ),
        (
            r#"{"ChangeFileInfo":{"Expires":5}}"#,
            "ChangeFileInfo.Expires",
        ),
        (
            r#"{"ChangeFileInfo":{"MaxSize":-1}}"#,
            "ChangeFileInfo.MaxSize",
        ),
        (
            r#"{"ChangeFileInfo":{"MaxSize":"1MB"}}"#,
            "ChangeFileInfo.MaxSize",
        ),
        (
            r#"{"ChangeFileInfo":{"ContentTypes":"image/*"}}"#,
            "ChangeFileInfo.ContentTypes",
        ),
        (
            r#"{"ChangeFileInfo":{"ContentTypes":[1]}}"#,
            "ChangeFileInfo.ContentTypes",
        ),
    ] {
        let error = parse_response(json.as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{field} in the response must be ")),
            "{json}: {error}"
        );
    }
    for json in ["[]", "\"ok\"", "1", "true"] {
        assert!(
            matches!(parse_response(json.as_bytes()), Err(ParseError::NotObject)),
            "{json}"
        );
    }
    for json in ["", "ok", "{", "{} {}", "{\"a\":01}", &"[".repeat(100_000)] {
        assert!(matches!(
            parse_response(json.as_bytes()),
            Err(ParseError::NotJson(_))
        ));
    }
}

prop_compose! {
    fn messages()(
        hook in 0..HookName::ALL.len(),
        texts in proptest::collection::btree_map(".*", ".*", 0..4),
        labels in proptest::collection::btree_map(".*", ".*", 0..3),
        storage in proptest::option::of(proptest::collection::btree_map(".*", ".*", 0..3)),
        headers in proptest::collection::btree_map(".*", proptest::collection::vec(".*", 0..3), 0..4),
        parts in proptest::option::of(proptest::collection::vec(".*", 0..3)),
        size in proptest::option::of(any::<u64>()),
        texts_of_request in proptest::array::uniform4(".*"),
        offset in any::<u64>(),
    ) -> Message {
        let mut message = samples().remove(hook);
        let [id, method, uri, remote] = texts_of_request;
        message.upload.id = id;
        message.upload.metadata = texts;
        message.upload.labels = labels;
        message.upload.storage = storage;
        message.upload.parts = parts;
        message.upload.size = size;
        message.upload.offset = offset;
        message.request = crate::RequestData {
            method,
            uri,
            remote,
            headers,
            redacted: crate::RedactedHeaders::default(),
        };
        message
    }
}

/// The event, built independently of the code under test.
fn event(message: &Message) -> Value {
    let (upload, request) = (&message.upload, &message.request);
    let mut event = json!({
        "Upload": {
            "ID": upload.id,
            "Size": upload.size.unwrap_or(0),
            "SizeIsDeferred": upload.size.is_none() && message.hook != HookName::PreAccess,
            "Offset": upload.offset,
            "MetaData": upload.metadata,
            "IsPartial": upload.is_partial,
            "IsFinal": upload.is_final,
            "PartialUploads": upload.parts,
            "Storage": upload.storage,
        },
        "HTTPRequest": {
            "Method": request.method,
            "URI": request.uri,
            "RemoteAddr": request.remote,
            "Header": request.headers,
        },
    });
    if !upload.labels.is_empty() {
        event["Upload"]["Labels"] = json!(upload.labels);
    }
    if let Some(intent) = message.intent {
        event["Intent"] = json!(intent.as_str());
    }
    if let Some(job) = &message.job {
        let time = |at: Option<std::time::SystemTime>| {
            at.map(|at| jiff::Timestamp::try_from(at).unwrap().to_string())
        };
        event["Job"] = json!({
            "RequestID": job.request_id,
            "Subject": job.subject,
            "State": job.state,
            "Reason": job.reason,
            "Filename": job.filename,
            "Filetype": job.filetype,
            "Size": job.size,
            "Offset": job.offset,
            "MetaData": job.metadata,
            "CreatedAt": time(job.created),
            "ExpiresAt": time(job.expires),
            "StartedAt": time(job.started),
            "UpdatedAt": time(job.updated),
            "EndedAt": time(job.ended),
        });
        if let Some(etag) = &job.etag {
            event["Job"]["ETag"] = json!(etag);
        }
    }
    event
}

proptest! {
    #[test]
    fn bodies_round_trip(message in messages()) {
        let event = event(&message);
        let read = |format| serde_json::from_slice::<Value>(&body(format, &message)).unwrap();
        prop_assert_eq!(&read(Format::V1), &event);
        let v2 = json!({ "Type": message.hook.as_str(), "Event": event });
        prop_assert_eq!(&read(Format::V2), &v2);
        let mut auto = v2;
        auto["Upload"] = event["Upload"].clone();
        auto["HTTPRequest"] = event["HTTPRequest"].clone();
        prop_assert_eq!(&read(Format::Auto), &auto);
        let cloud: Value = serde_json::from_slice(&cloud_event(&message, "/s")).unwrap();
        prop_assert_eq!(&cloud["data"], &event);
        for format in [Format::V1, Format::V2, Format::Auto] {
            let bytes = body(format, &message);
            prop_assert!(!bytes.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0..0x20)));
        }
    }
}
