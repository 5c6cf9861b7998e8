//! `GET /uploadjobs/events`

use std::{collections::BTreeSet, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use landfall_access::grants::api::StreamLimits;
use landfall_state::queue::{GrantOutcome, JobEnd, NewJob, Queue, QueueSettings, Scope};
use serde_json::{Value, json};

use super::harness::{Site, everywhere, with_defaults};

/// An event as a browser's EventSource would see it.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    id: i64,
    name: String,
    data: Value,
}

impl Heard {
    fn request_id(&self) -> &str {
        self.data["upload"]["request_id"].as_str().unwrap()
    }
}

/// An open event stream.
struct Ear {
    body: Incoming,
    text: String,
    last_id: i64,
    comments: usize,
}

impl Ear {
    async fn open(site: &Site, who: &str, after: Option<i64>) -> Self {
        Self::open_at(site, who, "/uploadjobs/events", after).await
    }

    async fn open_at(site: &Site, who: &str, path: &str, after: Option<i64>) -> Self {
        let mut ask = site.ask("GET", path).by(who);
        if let Some(id) = after {
            ask = ask.with("last-event-id", &id.to_string());
        }
        let response = ask.open().await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut ear = Self {
            body: response.into_body(),
            text: String::new(),
            last_id: 0,
            comments: 0,
        };
        let hello = ear.block().await.unwrap();
        assert!(hello.starts_with("retry: 2000\nid: "), "{hello}");
        ear.last_id = hello.rsplit(' ').next().unwrap().parse().unwrap();
        if let Some(after) = after {
            assert_eq!(ear.last_id, after);
        }
        ear
    }

    /// Returns the next event; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let frame = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                self.comments += 1;
                continue;
            }
            let lines: Vec<_> = block.lines().collect();
            let [id, event, data] = lines[..] else {
                panic!("not an event: {block}")
            };
            let id = id.strip_prefix("id: ").unwrap().parse().unwrap();
            assert!(id > self.last_id, "{id} after {}", self.last_id);
            self.last_id = id;
            let name = event.strip_prefix("event: ").unwrap().to_owned();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], *name);
            data["at"]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .unwrap();
            return Some(Heard { id, name, data });
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Heard> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.next().await.expect("it ended"));
        }
        all
    }

    /// Nothing more comes for a while.
    async fn is_quiet(&mut self) {
        let more = tokio::time::timeout(Duration::from_millis(700), self.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

async fn job(site: &Site, who: &str, id: &str) {
    site.grant(who, json!({"id": id, "filename": "a", "filesize": 5}))
        .await;
}

/// One event for each.
async fn jobs_that_end(site: &Site, who: &str, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        job(site, who, &id).await;
        let job = site.queue.by_request(who, &id).await.unwrap().unwrap();
        assert!(site.queue.finish(job.id, JobEnd::Expired).await.unwrap());
    }
}

#[tokio::test]
async fn the_story_of_an_upload() {
    with_defaults(async |site| {
        let mut ear = Ear::open(site, "ann", None).await;
        let token = site
            .grant("ann", json!({"id": "1", "filename": "a", "filesize": 5}))
            .await;
        let path = site.create(&token, 5).await;
        site.append(&path, 0, "hel").await.expect(204);
        let started = ear.next().await.unwrap();
        assert_eq!(started.name, "UploadStarted");
        assert_eq!(started.data["upload"]["state"], "started");
        let progress = ear.next().await.unwrap();
        assert_eq!(progress.name, "UploadProgress");
        assert_eq!(progress.data["upload"]["offset"], 3);
        site.append(&path, 3, "lo").await.expect(204);
        let completed = loop {
            let heard = ear.next().await.unwrap();
            match &*heard.name {
                "UploadProgress" => {}
                _ => break heard,
            }
        };
        assert_eq!(completed.name, "UploadCompleted");
        assert_eq!(completed.data["upload"], site.row("ann", "1").await);
        let fields: BTreeSet<_> = completed
            .data
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(
            fields,
            BTreeSet::from(["at".into(), "type".into(), "upload".into()])
        );

        job(site, "ann", "2").await;
        site.delete("ann", "2").await.expect(200);
        let cancelled = ear.next().await.unwrap();
        assert_eq!(
            (&*cancelled.name, cancelled.request_id()),
            ("UploadCancelled", "2")
        );
    })
    .await;
}

#[tokio::test]
async fn only_what_is_ones_own() {
    with_defaults(async |site| {
        let mut ann = Ear::open(site, "ann", None).await;
        let mut root = Ear::open(site, "root", None).await;
        let mut of_bob = Ear::open_at(site, "root", "/uploadjobs/events?subject=bob", None).await;
        jobs_that_end(site, "bob", ["b".into()]).await;
        jobs_that_end(site, "ann", ["a".into()]).await;
        let heard = ann.next().await.unwrap();
        assert_eq!(heard.request_id(), "a");
        assert_eq!(heard.data["upload"].get("subject"), None);
        let all = root.take(2).await;
        let subjects = all
            .iter()
            .map(|heard| heard.data["upload"]["subject"].clone());
        assert_eq!(subjects.collect::<Vec<_>>(), ["bob", "ann"]);
        assert_eq!(of_bob.next().await.unwrap(), all[0]);
        for ear in [&mut ann, &mut root, &mut of_bob] {
            ear.is_quiet().await;
        }
        site.get("ann", "/uploadjobs/events?subject=bob")
            .await
            .problem(403, "only admins");
        // Catching up, too.
        let mut late = Ear::open(site, "ann", Some(0)).await;
        assert_eq!(late.next().await.unwrap(), heard);
        late.is_quiet().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_number_only_what_comes() {
    with_defaults(async |site| {
        jobs_that_end(site, "ann", ["before".into()]).await;
        let mut ear = Ear::open(site, "ann", None).await;
        jobs_that_end(site, "ann", ["after".into()]).await;
        assert_eq!(ear.next().await.unwrap().request_id(), "after");
        // A client that is disconnected before the first event can resume.
        let ear = Ear::open(site, "ann", None).await;
        let last = ear.last_id;
        drop(ear);
        jobs_that_end(site, "ann", ["meanwhile".into()]).await;
        let mut ear = Ear::open(site, "ann", Some(last)).await;
        assert_eq!(ear.next().await.unwrap().request_id(), "meanwhile");
        let path = format!("/uploadjobs/events?last_event_id={last}");
        let response = site.ask("GET", &path).by("ann").open().await;
        let mut body = response.into_body();
        let mut text = String::new();
        while !text.contains("meanwhile") {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&frame).unwrap());
        }
        for nonsense in ["x", "-1", "1.5", "99999999999999999999"] {
            let ask = site.ask("GET", "/uploadjobs/events").by("ann");
            let reply = ask
                .with("last-event-id", nonsense)
                .send()
                .await
                .problem(422, "event");
            assert_eq!(reply.wrong_fields(), ["last_event_id"]);
        }
    })
    .await;
}

#[tokio::test]
async fn an_id_that_does_not_exist_resets_the_client() {
    with_defaults(async |site| {
        jobs_that_end(site, "ann", ["ended".into()]).await;
        jobs_that_end(site, "bob", ["cross_site".into()]).await;
        job(site, "ann", "granted").await;
        let mut ear = Ear::open(site, "ann", None).await;
        let newest = ear.last_id;
        // The database was replaced by an older one.
        let ask = site.ask("GET", "/uploadjobs/events").by("ann");
        let ask = ask.with("last-event-id", &(newest + 1).to_string());
        ear.body = ask.open().await.into_body();
        let hello = ear.block().await.unwrap();
        assert_eq!(hello, format!("retry: 2000\nid: {newest}"));
        ear.last_id = newest - 1;
        let reset = ear.next().await.unwrap();
        assert_eq!((&*reset.name, reset.id), ("reset", newest));
        assert_eq!(reset.data["has_more"], false);
        let uploads = reset.data["uploads"].as_array().unwrap();
        let state = |row: &Value| (row["request_id"].clone(), row["state"].clone());
        assert_eq!(
            uploads.iter().map(state).collect::<Vec<_>>(),
            [
                (json!("granted"), json!("received")),
                (json!("ended"), json!("expired"))
            ]
        );
        // It continues from there.
        jobs_that_end(site, "ann", ["after".into()]).await;
        assert_eq!(ear.next().await.unwrap().request_id(), "after");
        // The newest id itself is no reason.
        let mut ear = Ear::open(site, "ann", Some(ear.last_id)).await;
        ear.is_quiet().await;
    })
    .await;
}

#[tokio::test]
async fn what_happens_on_other_nodes() {
    with_defaults(async |site| {
        let settings = QueueSettings::new(site.database.clone());
        let other = Queue::open(settings).await.unwrap();
        let end_there = async |id: &str| {
            let new = NewJob::new("ann", id, "a");
            let GrantOutcome::Created(job, _) = other.grant(new).await.unwrap() else {
                panic!("not granted")
            };
            assert!(other.finish(job.id, JobEnd::Expired).await.unwrap());
        };
        // Expired, although maintenance has not run yet.
        end_there("before").await;
        let mut ear = Ear::open(site, "ann", None).await;
        end_there("after").await;
        assert_eq!(ear.next().await.unwrap().request_id(), "after");
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn cut_off_again_and_again() {
    const EVENTS: usize = 300;
    with_defaults(async |site| {
        let first = Ear::open(site, "ann", None).await.last_id;
        let telling = async {
            let ids = (0..EVENTS).map(|id| format!("id-{id}"));
            jobs_that_end(site, "ann", ids).await;
        };
        let listening = async {
            let mut heard = Vec::new();
            let mut last = first;
            let mut round = 0;
            while heard.len() < EVENTS {
                let mut ear = Ear::open(site, "ann", Some(last)).await;
                round += 1;
                let most = EVENTS - heard.len();
                heard.extend(ear.take(most.min(1 + round % 40)).await);
                last = ear.last_id;
            }
            heard
        };
        let ((), heard) = tokio::join!(telling, listening);
        let ids: Vec<_> = heard.iter().map(Heard::request_id).collect();
        let all: Vec<_> = (0..EVENTS).map(|id| format!("id-{id}")).collect();
        assert_eq!(ids, all);
    })
    .await;
}

#[tokio::test]
async fn who_is_slow_misses_nothing() {
    // More than are kept for those who are slow.
    const EVENTS: usize = 1500;
    with_defaults(async |site| {
        let mut slow = Ear::open(site, "ann", None).await;
        let mut quick = Ear::open(site, "ann", None).await;
        let counting = tokio::spawn(async move { quick.take(EVENTS).await });
        for batch in 0..EVENTS / 50 {
            let jobs = (0..50).map(|n| {
                let id = format!("id-{batch}-{n}");
                async move { jobs_that_end(site, "ann", [id]).await }
            });
            futures_util::future::join_all(jobs).await;
        }
        let heard = slow.take(EVENTS).await;
        let quick = counting.await.unwrap();
        assert_eq!(heard, quick);
        let ids: BTreeSet<_> = heard.iter().map(Heard::request_id).collect();
        assert_eq!(ids.len(), EVENTS);
        slow.is_quiet().await;
        let newest = site.queue.latest_event().await.unwrap();
        assert_eq!(slow.last_id, newest);
    })
    .await;
}

#[tokio::test]
async fn many_listen() {
    const EARS: usize = 300;
    with_defaults(async |site| {
        let mut ears = Vec::new();
        for ear in 0..EARS {
            let who = if ear % 3 == 0 { "ann" } else { "bob" };
            ears.push((who, Ear::open(site, who, None).await));
        }
        for id in 0..5 {
            jobs_that_end(site, "ann", [format!("ann-{id}")]).await;
            jobs_that_end(site, "bob", [format!("bob-{id}")]).await;
        }
        for (who, mut ear) in ears {
            let heard = ear.take(5).await;
            let expected = (0..5).map(|id| format!("{who}-{id}"));
            assert!(heard.iter().map(Heard::request_id).eq(expected));
        }
        // When they are gone, and others come, these hear just as well.
        let mut ear = Ear::open(site, "ann", None).await;
        jobs_that_end(site, "ann", ["last".into()]).await;
        assert_eq!(ear.next().await.unwrap().request_id(), "last");
    })
    .await;
}

#[tokio::test]
async fn signs_of_life_and_the_end() {
    everywhere(
        |plan| plan.api(|api| api.keep_alive_interval = Duration::from_millis(50)),
        async |site| {
            let mut ear = Ear::open(site, "ann", None).await;
            assert_eq!(ear.block().await.unwrap(), ":");
            assert_eq!(ear.block().await.unwrap(), ":");
            jobs_that_end(site, "ann", ["1".into()]).await;
            assert_eq!(ear.next().await.unwrap().request_id(), "1");
            site.shutdown.send_replace(true);
            assert_eq!(ear.next().await, None);
        },
    )
    .await;
}

#[tokio::test]
async fn who_may_not_any_more_is_sent_away() {
    everywhere(
        |plan| {
            plan.api(|api| {
                api.keep_alive_interval = Duration::from_millis(50);
                api.reauthorize_interval = Duration::from_millis(100);
            });
        },
        async |site| {
            let mut ann = Ear::open(site, "ann", None).await;
            let mut bob = Ear::open(site, "bob", None).await;
            // If authentication is unavailable, the stream stays open.
            let away = landfall_access::auth::AuthError::Unavailable;
            *site.people.denied.lock().unwrap() = Some(away);
            tokio::time::sleep(Duration::from_millis(400)).await;
            *site.people.denied.lock().unwrap() = None;
            site.people.gone.lock().unwrap().insert("ann".into());
            assert_eq!(ann.next().await, None);
            jobs_that_end(site, "bob", ["1".into()]).await;
            assert_eq!(bob.next().await.unwrap().request_id(), "1");
        },
    )
    .await;
}

#[tokio::test]
async fn seats_are_taken() {
    everywhere(
        |plan| {
            plan.api(|api| {
                api.stream_limits = StreamLimits {
                    total: 3,
                    per_subject: 2,
                };
            });
        },
        async |site| {
            let first = Ear::open(site, "ann", None).await;
            let _second = Ear::open(site, "ann", None).await;
            let reply = site
                .get("ann", "/uploadjobs/events")
                .await
                .problem(429, "of this subject");
            assert!(reply.wait() > 0);
            let _third = Ear::open(site, "bob", None).await;
            let reply = site
                .get("carl", "/uploadjobs/events")
                .await
                .problem(503, "too many");
            assert!(reply.wait() > 0);
            drop(first);
            // The disconnect is noticed at the next failed write.
            jobs_that_end(site, "ann", ["1".into(), "2".into()]).await;
            loop {
                let response = site
                    .ask("GET", "/uploadjobs/events")
                    .by("carl")
                    .open()
                    .await;
                if response.status() == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    )
    .await;
}

#[tokio::test]
async fn nothing_is_read_for_nobody() {
    with_defaults(async |site| {
        // Events without listeners are stored.
        jobs_that_end(site, "ann", (0..450).map(|id| format!("id-{id}"))).await;
        let mut ear = Ear::open(site, "ann", Some(0)).await;
        let heard = ear.take(450).await;
        let numbers = site
            .queue
            .events(&Scope::Subject("ann".into()), 0, 1000)
            .await
            .unwrap();
        let numbers = numbers.iter().map(|event| event.number);
        assert!(heard.iter().map(|heard| heard.id).eq(numbers));
    })
    .await;
}
