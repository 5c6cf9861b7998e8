//! `GET /uploadjobs` and `GET /uploadjobs/{request_id}`.

use serde_json::{Value, json};

use super::harness::{HttpReply, with_defaults};

fn file(id: &str) -> Value {
    json!({"id": id, "filename": "a.txt", "filesize": 5, "filetype": "text/plain", "x": 1})
}

fn ids(reply: &HttpReply) -> Vec<&str> {
    let rows = reply.json.as_array().unwrap();
    rows.iter()
        .map(|row| row["request_id"].as_str().unwrap())
        .collect()
}

/// The path of the next page.
fn next(reply: &HttpReply) -> Option<String> {
    let link = reply.header("link")?;
    let url = link
        .strip_prefix('<')
        .unwrap()
        .strip_suffix(">; rel=\"next\"")
        .unwrap();
    Some(url.to_owned())
}

/// An application that moves or deletes the file at once must not hide the completion from a client that polls.
#[tokio::test]
async fn a_completed_upload_stays_so_when_it_is_deleted() {
    with_defaults(async |site| {
        let token = site.grant("ann", file("one")).await;
        let path = site.create(&token, 5).await;
        site.append(&path, 0, "hello").await.expect(204);
        let delete = site.ask("DELETE", &path).with("Tus-Resumable", "1.0.0");
        delete.send().await.expect(204);
        let reason = json!("by the client");
        let row = site.until("ann", "one", "reason", reason).await;
        assert_eq!(row["state"], "completed");
        let listed = site.get("ann", "/uploadjobs?state=completed").await;
        assert_eq!(ids(&listed.expect(200)), ["one"]);
    })
    .await;
}

#[tokio::test]
async fn a_row_shows_what_is_its_owners() {
    with_defaults(async |site| {
        let token = site.grant("ann", file("one")).await;
        let row = site.row("ann", "one").await;
        let fields: Vec<_> = row
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let all = [
            "created_at",
            "ended_at",
            "etag",
            "expires_at",
            "filename",
            "filetype",
            "metadata",
            "offset",
            "reason",
            "request_id",
            "size",
            "started_at",
            "state",
            "updated_at",
        ];
        assert_eq!(fields, all);
        assert_eq!(row["filetype"], "text/plain");
        assert_eq!(row["metadata"], json!({"x": 1}));
        for none in ["ended_at", "etag", "reason", "started_at"] {
            assert_eq!(row[none], Value::Null, "{none}");
        }
        let path = site.create(&token, 5).await;
        site.append(&path, 0, "hel").await.expect(204);
        let row = site.until("ann", "one", "offset", json!(3)).await;
        assert_eq!(row["state"], "progress");
        assert!(row["started_at"].is_string());
        site.append(&path, 3, "lo").await.expect(204);
        let row = site.until("ann", "one", "state", json!("completed")).await;
        assert_eq!(row["offset"], 5);
        for time in [
            "created_at",
            "expires_at",
            "started_at",
            "updated_at",
            "ended_at",
        ] {
            let at = row[time].as_str().unwrap();
            assert!(
                at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(),
                "{at}"
            );
        }
        let list = site.get("ann", "/uploadjobs").await.expect(200);
        assert_eq!(list.json, json!([row]));
    })
    .await;
}

#[tokio::test]
async fn page_after_page() {
    with_defaults(async |site| {
        for id in 0..7 {
            site.grant("ann", file(&format!("id-{id}"))).await;
            // Others' are in between.
            site.grant("bob", file(&format!("other-{id}"))).await;
        }
        let mut path = "/uploadjobs?limit=3".to_owned();
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let page = site.get("ann", &path).await.expect(200);
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            pages += 1;
            match next(&page) {
                Some(more) => path = more,
                None => break,
            }
        }
        assert_eq!(pages, 3);
        assert_eq!(
            seen,
            (0..7).map(|id| format!("id-{id}")).collect::<Vec<_>>()
        );
        // A full last page has no next page.
        let all = site.get("ann", "/uploadjobs?limit=7").await.expect(200);
        assert_eq!((ids(&all).len(), next(&all)), (7, None));
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("after=x", "after"),
            ("state=done", "state"),
        ] {
            let path = format!("/uploadjobs?{query}");
            let reply = site.get("ann", &path).await.problem(422, "");
            assert_eq!(reply.wrong_fields(), [field]);
        }
    })
    .await;
}

#[tokio::test]
async fn by_state() {
    with_defaults(async |site| {
        for id in ["a", "b", "c", "d"] {
            site.grant("ann", file(id)).await;
        }
        site.delete("ann", "b").await.expect(200);
        let token = site.post("ann", file("d")).await.expect(200).json["upload_token"].clone();
        site.create(token.as_str().unwrap(), 5).await;
        for (query, expected) in [
            ("state=received", vec!["a", "c"]),
            ("state=cancelled,started", vec!["b", "d"]),
            ("state=cancelled&state=started", vec!["b", "d"]),
            ("state=failed", vec![]),
            ("", vec!["a", "b", "c", "d"]),
        ] {
            let list = site
                .get("ann", &format!("/uploadjobs?{query}"))
                .await
                .expect(200);
            assert_eq!(ids(&list), expected, "{query}");
        }
        let first = site
            .get("ann", "/uploadjobs?state=received&limit=1")
            .await
            .expect(200);
        let second = site.get("ann", &next(&first).unwrap()).await.expect(200);
        assert_eq!((ids(&first), ids(&second)), (vec!["a"], vec!["c"]));
    })
    .await;
}

#[tokio::test]
async fn what_is_anothers_is_as_if_it_were_not() {
    with_defaults(async |site| {
        site.grant("ann", file("mine")).await;
        for method in ["GET", "DELETE"] {
            let ask = |id: &str| {
                site.ask(method, &format!("/uploadjobs/{id}"))
                    .by("bob")
                    .send()
            };
            let cross_site = ask("mine").await.problem(404, "upload not found");
            let unknown = ask("none").await.problem(404, "upload not found");
            assert_eq!(cross_site.text, unknown.text);
            let names = |reply: &HttpReply| reply.headers.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&cross_site), names(&unknown));
        }
        assert_eq!(
            site.get("bob", "/uploadjobs").await.expect(200).json,
            json!([])
        );
        // Other subjects are denied by name, too.
        for path in ["/uploadjobs?subject=ann", "/uploadjobs/mine?subject=ann"] {
            site.get("bob", path).await.problem(403, "only admins");
            site.get("ann", path).await.expect(200);
        }
        assert_eq!(site.row("ann", "mine").await["state"], "received");
    })
    .await;
}

#[tokio::test]
async fn admins_see_all() {
    with_defaults(async |site| {
        site.grant("ann", file("1")).await;
        site.grant("bob", file("1")).await;
        site.grant("root", file("own")).await;
        let all = site.get("root", "/uploadjobs").await.expect(200);
        assert_eq!(ids(&all), ["1", "1", "own"]);
        assert_eq!(all.json[0]["subject"], "ann");
        let of_bob = site
            .get("root", "/uploadjobs?subject=bob")
            .await
            .expect(200);
        assert_eq!(of_bob.json, json!([all.json[1]]));
        assert_eq!(site.row("root", "own").await["subject"], "root");
        site.get("root", "/uploadjobs/1")
            .await
            .problem(404, "not found");
        let of_ann = site
            .get("root", "/uploadjobs/1?subject=ann")
            .await
            .expect(200);
        assert_eq!(of_ann.json, all.json[0]);
        let path = "/uploadjobs/1?subject=ann";
        let gone = site.ask("DELETE", path).by("root").send().await.expect(200);
        assert_eq!(gone.json["state"], "cancelled");
        assert_eq!(gone.json["reason"], "cancelled by an admin");
        assert_eq!(
            site.row("ann", "1").await["reason"],
            "cancelled by an admin"
        );
        assert_eq!(site.row("bob", "1").await["state"], "received");
    })
    .await;
}

#[tokio::test]
async fn ids_with_odd_characters() {
    with_defaults(async |site| {
        for (id, escaped) in [
            ("a/b", "a%2Fb"),
            ("a+b=c&d", "a+b=c&d"),
            ("ü?#", "%C3%BC%3F%23"),
            ("100%", "100%25"),
            ("<script>", "%3Cscript%3E"),
        ] {
            site.grant("ann", file(id)).await;
            assert_eq!(site.row("ann", escaped).await["request_id"], id);
            assert_eq!(
                site.delete("ann", escaped).await.expect(200).json["request_id"],
                id
            );
        }
        site.get("ann", "/uploadjobs/%FF")
            .await
            .problem(404, "not found");
    })
    .await;
}
