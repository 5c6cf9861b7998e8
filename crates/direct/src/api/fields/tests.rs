use http::StatusCode;
use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => panic!("no object"),
    }
}

#[test]
fn names_of_the_seed() {
    for (name, normal) in [
        ("My File.PDF", "my_file.pdf"),
        ("  a  b\tc ", "a__b_c"),
        ("ÄÖ\u{a0}x", "äö_x"),
        ("a", "a"),
    ] {
        assert_eq!(normal_name(name), normal);
    }
}

#[test]
fn fields_of_the_seed() {
    for (body, field) in [
        (json!({}), "file_name"),
        (json!({"file_name": null}), "file_name"),
        (json!({"file_name": 7}), "file_name"),
        (json!({"file_name": " \t"}), "file_name"),
        (json!({"file_name": "x".repeat(1025)}), "file_name"),
        (json!({"file_name": "a", "file_type": 1}), "file_type"),
        (
            json!({"file_name": "a", "file_type": "text/plain; charset=utf-8"}),
            "file_type",
        ),
        (
            json!({"file_name": "a", "file_type": "täxt/plain"}),
            "file_type",
        ),
        (
            json!({"file_name": "a", "file_type": "image/png;,text/html"}),
            "file_type",
        ),
        (
            json!({"file_name": "a", "file_type": "image/../html"}),
            "file_type",
        ),
        (json!({"file_name": "a", "file_size": -1}), "file_size"),
        (json!({"file_name": "a", "file_size": "x"}), "file_size"),
        (json!({"file_name": "a", "file_size": 1.5}), "file_size"),
        (json!({"file_name": "a", "request_id": "a b"}), "request_id"),
        (json!({"file_name": "a", "request_id": ".."}), "request_id"),
        (json!({"file_name": "a", "metadata": []}), "metadata"),
    ] {
        let problem = seed(object(body.clone())).err().expect("it is refused");
        assert_eq!(problem.named_field(), Some(field), "{body}");
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
    }
    let file = seed(object(json!({
        "file_name": "A b.png", "file_type": "", "file_size": "12", "request_id": "r1",
        "metadata": {"album": 7, "none": null, "deep": {"a": 1}},
    })))
    .expect("it is taken");
    assert_eq!(
        (&*file.name, file.kind, file.size),
        ("a_b.png", None, Some(12))
    );
    assert_eq!(file.request_id.as_deref(), Some("r1"));
    let metadata: Vec<_> = file.metadata.into_iter().collect();
    let wanted = [("album", "7"), ("deep", "{\"a\":1}")];
    assert_eq!(
        metadata,
        wanted.map(|(name, value)| (name.into(), value.into()))
    );
}

#[test]
fn tokens_are_taken_out() {
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
        let file = File::of_json(object(body)).expect("it is taken");
        let found = file.stated.as_ref().map(|stated| &*stated.token);
        assert_eq!(found, token, "{metadata}");
        assert_eq!(serde_json::to_value(&file.metadata).unwrap(), left);
    }
    let query = Query::new(Some(
        "filename=a&metadata[upload_token]=lft_x&upload_token=lft_y",
    ));
    let file = File::of_query(query).expect("it is taken");
    assert_eq!(
        file.stated.map(|stated| stated.token).as_deref(),
        Some("lft_y")
    );
}

#[test]
fn sizes_are_digits() {
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
        let mut fields = object(body.clone());
        fields.insert("filename".into(), "a".into());
        let file = File::of_json(fields).expect("it is taken");
        assert_eq!(file.size, size, "{body}");
    }
}

#[test]
fn types_that_are_none() {
    for none in ["", "null", "undefined"] {
        let body = json!({"filename": "a", "type": none});
        assert_eq!(File::of_json(object(body)).ok().unwrap().kind, None);
    }
    for bad in [json!(1), json!("a\r\nb"), json!("x".repeat(256))] {
        let body = json!({"filename": "a", "type": bad});
        let problem = File::of_json(object(body)).err().unwrap();
        assert_eq!(problem.named_field(), Some("type"));
    }
}
