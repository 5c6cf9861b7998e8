//! The examples of the guide.

use serde_json::Value;

use super::harness::{Harness, put};

const GUIDE: &str = include_str!("../../../../../docs/direct.md");

/// Returns the code blocks of the guide in one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    let blocks = GUIDE.split(&*begin).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_works() {
    let harness = Harness::strict().await;
    let shown: Vec<Value> = blocks("json")
        .into_iter()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")))
        .collect();
    let [signed, completed] = &*shown else {
        panic!("{shown:?}")
    };
    let names = |value: &Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let commands = blocks("sh").concat();
    let body = commands.split("-d '").nth(1).unwrap();
    let body: Value = serde_json::from_str(body.split("'\n").next().unwrap()).unwrap();
    let reply = harness.post("/api/sign", &body).await;
    let reply = reply.expect(200);
    assert_eq!(names(&reply.json), names(signed));
    assert_eq!(reply.json["headers"], signed["headers"]);
    let url = reply.text_of("url");
    assert!(url.ends_with("/my_file.pdf"), "{url}");
    assert_eq!(
        reply.text_of("file_type"),
        signed["file_type"].as_str().unwrap()
    );
    let headers = [("content-type", "application/pdf"), ("if-none-match", "*")];
    let sent = put(&reply.text_of("signed_request"), &headers, b"hello").await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let named = serde_json::json!({ "url": url });
    let done = harness.post("/api/complete", &named).await;
    let done = done.expect(200);
    assert_eq!(names(&done.json), names(completed));
    for name in ["state", "size"] {
        assert_eq!(done.json[name], completed[name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_exists() {
    let harness = Harness::start().await;
    let quoted = GUIDE.split('`').skip(1).step_by(2);
    let headings = GUIDE.lines().filter_map(|line| line.strip_prefix("### "));
    let mut seen = 0;
    for text in quoted.chain(headings) {
        let Some((method @ ("GET" | "POST" | "DELETE"), path)) = text.split_once(' ') else {
            continue;
        };
        let path = path.split('?').next().unwrap();
        if path.starts_with("/api/") || path.starts_with("/s3/") {
            let reply = harness
                .request(method, path)
                .json(&Value::Null)
                .send()
                .await;
            assert!(!matches!(reply.status, 404 | 405), "{text}: {reply:?}");
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen}");
}
