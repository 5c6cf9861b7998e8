use http::StatusCode;
use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => panic!("no object"),
    }
}

fn read(body: Value) -> Result<FileRequest, Problem> {
    from_json(TransferMode::Put, object(body))
}

#[test]
fn names_are_normalized() {
    for (name, normal) in [
        ("My File.PDF", "my_file.pdf"),
        ("  a  b\tc ", "a__b_c"),
        ("ÄÖ\u{a0}x", "äö_x"),
        ("a", "a"),
    ] {
        assert_eq!(normalize_name(name), normal);
    }
}

#[test]
fn sign_s3_fields_are_checked() {
    for (body, field) in [
        (json!({}), "file_name"),
        (json!({"file_name": null}), "file_name"),
        (json!({"file_name": 7}), "file_name"),
        (json!({"file_name": " \t"}), "file_name"),
        (json!({"file_name": "x".repeat(1025)}), "file_name"),
        (json!({"file_name": "a", "file_type": 1}), "file_type"),
        (
            json!({"file_name": "a", "file_type": "täxt/plain"}),
            "file_type",
        ),
        (
            json!({"file_name": "a", "file_type": "image/png;,text/html"}),
            "file_type",
        ),
        (json!({"file_name": "a", "file_size": -1}), "file_size"),
        (json!({"file_name": "a", "file_size": "x"}), "file_size"),
        (json!({"file_name": "a", "file_size": 1.5}), "file_size"),
        (json!({"file_name": "a", "request_id": "a b"}), "request_id"),
        (json!({"file_name": "a", "request_id": ".."}), "request_id"),
        (json!({"file_name": "a", "metadata": []}), "metadata"),
    ] {
        let problem = sign(object(body.clone())).err().expect("it is rejected");
        assert_eq!(problem.errors()[0].0, field, "{body}");
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
    }
    let (asked, _) = sign(object(json!({
        "file_name": "A b.png", "file_type": "", "file_size": "12", "request_id": "r1",
        "metadata": {"album": 7, "none": null, "deep": {"a": 1}},
    })))
    .ok()
    .unwrap();
    assert_eq!(
        (&*asked.filename, asked.filetype, asked.size),
        ("a_b.png", None, Some(12))
    );
    assert_eq!(asked.request_id.as_deref(), Some("r1"));
    let metadata: Vec<_> = asked.metadata.into_iter().collect();
    let wanted = [("album", "7"), ("deep", "{\"a\":1}")];
    assert_eq!(
        metadata,
        wanted.map(|(name, value)| (name.into(), value.into()))
    );
}

#[test]
fn tokens_are_extracted() {
    for (metadata, token, left) in [
        (
            json!({"upload_token": "lft_x", "a": "1"}),
            Some("lft_x"),
            json!({"a": "1"}),
        ),
        (json!({"upload_token": "plain"}), Some("plain"), json!({})),
        (json!({"token": "lft_x"}), Some("lft_x"), json!({})),
        (json!({"token": "csrf"}), None, json!({"token": "csrf"})),
        (
            json!({"token": "other", "upload_request_id": "7"}),
            Some("other"),
            json!({"upload_request_id": "7"}),
        ),
        (
            json!({"x": "lfk_secret", "y": "lft_secret"}),
            None,
            json!({}),
        ),
    ] {
        let body = json!({"filename": "a", "metadata": metadata});
        let (asked, found) = read(body).ok().unwrap();
        let found = found.as_ref().map(|stated| &*stated.token);
        assert_eq!(found, token, "{metadata}");
        assert_eq!(serde_json::to_value(&asked.metadata).unwrap(), left);
    }
    let query = Query::new(Some(
        "filename=a&metadata[upload_token]=lft_x&upload_token=lft_y",
    ));
    let (_, found) = from_query(TransferMode::Put, query).ok().unwrap();
    assert_eq!(found.map(|stated| stated.token).as_deref(), Some("lft_y"));
}

#[test]
fn sizes_are_whole_numbers() {
    for (body, size) in [
        (json!({"size": 5}), Some(5)),
        (json!({"size": "5"}), Some(5)),
        (json!({"metadata": {"size": 5}}), Some(5)),
        (json!({"metadata": {"size": "5"}}), Some(5)),
        (json!({"metadata": {"size": "5 MB"}}), None),
        (json!({"metadata": {"size": "+5"}}), None),
        (json!({"metadata": {"size": 5.5}}), None),
        (json!({"size": u64::MAX}), None),
        (json!({"size": null}), None),
        (json!({}), None),
    ] {
        let mut named = body.clone();
        named["filename"] = "a".into();
        assert_eq!(read(named).ok().unwrap().0.size, size, "{body}");
    }
}

#[test]
fn types_are_kept_as_clients_state_them() {
    for kind in [
        "video/webm;codecs=vp9,opus",
        "audio/ogg; codecs=opus",
        "Image/PNG",
        "image",
    ] {
        let (asked, _) = read(json!({"filename": "a", "type": kind})).ok().unwrap();
        assert_eq!(asked.filetype.as_deref(), Some(kind));
        let (asked, _) = sign(object(json!({"file_name": "a", "file_type": kind})))
            .ok()
            .unwrap();
        assert_eq!(asked.filetype.as_deref(), Some(kind));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("filename", "a"), ("type", kind)])
            .finish();
        let query = Query::new(Some(&query));
        let (asked, _) = from_query(TransferMode::Put, query).ok().unwrap();
        assert_eq!(asked.filetype.as_deref(), Some(kind));
    }
    for (kind, is_compact) in [
        ("video/webm;codecs=vp9,opus", true),
        ("text/plain; a=b", false),
    ] {
        let fields = object(json!({"file_type": kind}));
        assert_eq!(check_compact_type(&fields).is_ok(), is_compact, "{kind}");
    }
}

#[test]
fn invalid_types_are_ignored_or_rejected() {
    for none in ["", "null", "undefined"] {
        let body = json!({"filename": "a", "type": none});
        assert_eq!(read(body).ok().unwrap().0.filetype, None);
    }
    for bad in [json!(1), json!("a\r\nb"), json!("x".repeat(256))] {
        let body = json!({"filename": "a", "type": bad});
        let problem = read(body).err().unwrap();
        assert_eq!(problem.errors()[0].0, "type");
    }
}
