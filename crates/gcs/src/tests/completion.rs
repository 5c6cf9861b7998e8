use std::sync::Mutex;

use landfall_objects::Cloud as _;

use super::*;

/// The tags of `count` parts of one byte.
fn parts(count: u32) -> Vec<(u32, String)> {
    let tag = |number| PartTag::new(u64::from(number), of(b"x")).to_string();
    (1..=count).map(|number| (number, tag(number))).collect()
}

/// Returns the checksum of `count` bytes.
fn whole(count: u64) -> Checksum {
    (0..count).fold(Checksum::default(), |all, _| all.followed_by(of(b"x")))
}

fn listing(count: u32) -> Step {
    let items =
        (0..count).map(|index| resource(&format!("p/id_{index}"), u64::from(index) + 1, of(b"x")));
    ok(&json!({"items": items.collect::<Vec<_>>()}))
}

fn source_count(request: &script::Request) -> u64 {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    body["sourceObjects"].as_array().expect("sources").len() as u64
}

/// Returns a source of a composition as the client writes it.
fn source(name: &str, generation: u64) -> String {
    json!({"name": name, "generation": generation.to_string()}).to_string()
}

fn batch_response(request: &script::Request, status: &str) -> Step {
    let count = request.text().matches("DELETE ").count();
    let parts = (0..count).map(|index| {
        format!("--b\r\nContent-Type: application/http\r\nContent-ID: <response-{index}>\r\n\r\nHTTP/1.1 {status}\r\n\r\n\r\n")
    });
    let body = parts.collect::<String>() + "--b--\r\n";
    reply(200, &body).with("content-type", "multipart/mixed; boundary=b")
}

#[tokio::test]
async fn many_parts_become_one_object_in_four_round_trips() {
    const COUNT: u32 = 128;
    let script = Script::by(|request| {
        let url = &request.url;
        Some(if url.contains("/compose?") {
            let is_last = url.contains("/o/p%2Fid/compose");
            let size = if is_last { u64::from(COUNT) } else { 32 };
            ok(&resource("made", 1000, whole(size)))
        } else if url.ends_with("/batch/storage/v1") {
            batch_response(request, "204 No Content")
        } else if request.method == "DELETE" {
            reply(204, "")
        } else {
            listing(COUNT + 1)
        })
    });
    let headers = ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        metadata: [("filename".to_owned(), "x.txt".to_owned())].into(),
        ..ObjectHeaders::default()
    };
    let client = client(&script);
    let parts = parts(COUNT);
    let completed = client.complete_multipart(object(), "", &parts, &headers);
    assert_eq!(completed.await.expect("completed"), "\"1000\"");
    let requests = script.requests();
    let lines: Vec<_> = requests.iter().map(script::Request::line).collect();
    let position = |text: &str| {
        lines
            .iter()
            .position(|line| line.contains(text))
            .expect(text)
    };
    // Four groups and the list, the object, its first part, two batches.
    assert_eq!(lines.len(), 5 + 1 + 1 + 2, "{lines:#?}");
    for index in 0..4 {
        let temporary = position(&format!(
            "/o/p%2F.landfall%2Fcompose%2Fid%2F0-{index}/compose?"
        ));
        assert!(
            lines[temporary].ends_with("&ifGenerationMatch=0"),
            "{}",
            lines[temporary]
        );
        assert_eq!(source_count(&requests[temporary]), 32);
        let text = requests[temporary].text();
        let number = index * 32;
        assert!(
            text.contains(&source(&format!("p/id_{number}"), number + 1)),
            "{text}"
        );
    }
    let last = &requests[position("/o/p%2Fid/compose?")];
    let text = last.text();
    assert_eq!(source_count(last), 4);
    assert!(
        text.contains(&source("p/.landfall/compose/id/0-3", 1000)),
        "{text}"
    );
    assert!(
        text.contains(r#""contentType":"text/plain""#) && text.contains(r#""filename":"x.txt""#),
        "{text}"
    );
    let first = position("DELETE https://storage.googleapis.com/storage/v1/b/bucket/o/p%2Fid_0");
    assert_eq!(first, 6, "the first part goes alone and before the others");
    let deleted: String = requests[7..].iter().map(script::Request::text).collect();
    // One part more than was named, which a dead process has written late.
    assert_eq!(deleted.matches("DELETE ").count(), 128 + 4);
    assert!(
        deleted.contains("DELETE /storage/v1/b/bucket/o/p%2Fid_128 HTTP/1.1"),
        "{deleted}"
    );
}

/// Answers compositions with this, lists one part, and finds this object.
fn one_part(composed: &Step, found: &Step) -> Arc<Script> {
    let (composed, found) = (composed.clone(), found.clone());
    Script::by(move |request| {
        let url = &request.url;
        Some(if url.contains("/compose?") {
            composed.clone()
        } else if request.method == "DELETE" {
            reply(204, "")
        } else if url.contains("/o/p%2Fid?") {
            found.clone()
        } else {
            listing(1)
        })
    })
}

#[tokio::test]
async fn finish_that_took_effect_succeeds() {
    let headers = ObjectHeaders::default();
    let missing = failure(404, "notFound");
    let (unmet, ours) = (
        failure(412, "conditionNotMet"),
        ok(&resource("p/id", 5, of(b"x"))),
    );
    let other = ok(&resource("p/id", 5, of(b"y")));
    for (composed, found, wanted) in [
        (&unmet, &ours, Ok("\"5\"")),
        // Another process has finished, and has removed the parts.
        (&missing, &ours, Ok("\"5\"")),
        (&unmet, &other, Err(ErrorKind::PreconditionFailed)),
        (&missing, &other, Err(ErrorKind::PreconditionFailed)),
        (&missing, &missing, Err(ErrorKind::InvalidPart)),
    ] {
        let script = one_part(composed, found);
        let client = client(&script);
        let completed = client
            .complete_multipart(object(), "", &parts(1), &headers)
            .await;
        let removed = script
            .requests()
            .iter()
            .filter(|request| request.method == "DELETE")
            .count();
        let is_complete = wanted.is_ok();
        match wanted {
            Ok(version) => assert_eq!(completed.expect("completed"), version),
            Err(kind) => assert_eq!(*completed.expect_err("refused").kind(), kind),
        }
        assert_eq!(removed, usize::from(is_complete));
    }
}

#[tokio::test]
async fn object_with_other_bytes_is_deleted() {
    let script = one_part(&ok(&resource("p/id", 5, of(b"y"))), &reply(500, ""));
    let client = client(&script);
    let headers = ObjectHeaders::default();
    let error = client
        .complete_multipart(object(), "", &parts(1), &headers)
        .await
        .expect_err("damaged");
    assert!(
        error
            .to_string()
            .contains("other bytes than those of its 1 sources; it was deleted"),
        "{error}"
    );
    let requests = script.requests();
    let deleted: Vec<_> = requests
        .iter()
        .filter(|request| request.method == "DELETE")
        .collect();
    assert_eq!(deleted.len(), 1, "no part");
    assert!(deleted[0].url.ends_with("/o/p%2Fid?ifGenerationMatch=5"));
}

#[tokio::test]
async fn temporary_objects_of_an_interrupted_finish_are_used_or_replaced() {
    for (left, wanted) in [(whole(32), 11), (of(b"other"), 12)] {
        let script = Script::by(move |request| {
            let url = &request.url;
            Some(if url.contains("/compose?") && url.contains("landfall") {
                match url.ends_with("ifGenerationMatch=0") {
                    true => failure(412, "conditionNotMet"),
                    false => ok(&resource("made", 12, whole(32))),
                }
            } else if url.contains("/compose?") {
                ok(&resource("p/id", 20, whole(33)))
            } else if url.contains("/o/p%2F.landfall") && request.method == "GET" {
                ok(&resource("left", 11, left))
            } else if url.ends_with("/batch/storage/v1") {
                batch_response(request, "204 No Content")
            } else if request.method == "DELETE" {
                reply(204, "")
            } else {
                listing(33)
            })
        });
        let client = client(&script);
        let headers = ObjectHeaders::default();
        let completed = client
            .complete_multipart(object(), "", &parts(33), &headers)
            .await;
        completed.expect("completed");
        let requests = script.requests();
        let last = requests
            .iter()
            .find(|request| request.url.contains("/o/p%2Fid/compose?"));
        let text = last.expect("a finish").text();
        let source = source("p/.landfall/compose/id/0-0", wanted);
        assert!(text.contains(&source), "{text}");
    }
}

#[tokio::test]
async fn service_without_batches_gets_single_deletions() {
    let batches = Arc::new(Mutex::new(0));
    let counted = batches.clone();
    let script = Script::by(move |request| {
        let url = &request.url;
        Some(if url.ends_with("/batch/storage/v1") {
            *counted.lock().expect("unbroken") += 1;
            reply(404, "Not Found")
        } else if request.method == "DELETE" {
            reply(204, "")
        } else if url.contains("landfall") {
            ok(
                &json!({"items": [{"name": "p/.landfall/compose/id/0-0"}, {"name": "p/.landfall/compose/id/x"}]}),
            )
        } else {
            listing(3)
        })
    });
    let client = client(&script);
    client.abort_multipart(object(), "").await.expect("removed");
    client
        .remove_parts(object(), "", &parts(3)[1..])
        .await
        .expect("removed");
    let requests = script.requests();
    let deleted = requests.iter().filter(|request| request.method == "DELETE");
    assert_eq!(deleted.count(), 4 + 2);
    assert_eq!(
        *batches.lock().expect("unbroken"),
        1,
        "it is not tried again"
    );
}

#[tokio::test]
async fn parts_are_removed_from_the_last() {
    let script = Script::by(|request| {
        Some(match request.url.ends_with("/batch/storage/v1") {
            true => batch_response(request, "404 Not Found"),
            false => listing(150),
        })
    });
    let client = client(&script);
    client
        .remove_parts(object(), "", &parts(150)[2..])
        .await
        .expect("removed");
    let requests = script.requests();
    let texts: Vec<_> = requests.iter().map(script::Request::text).collect();
    assert_eq!(texts.len(), 2);
    let has = |batch: usize, index: u32| {
        let generation = index + 1;
        texts[batch].contains(&format!(
            "/o/p%2Fid_{index}?ifGenerationMatch={generation} "
        ))
    };
    assert!(has(0, 149) && has(0, 50) && !has(0, 49));
    assert!(has(1, 49) && has(1, 2) && !has(1, 1));
}
