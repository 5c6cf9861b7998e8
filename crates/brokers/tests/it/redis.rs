//! Redis streams, with a real server.

use std::{collections::HashMap, sync::Arc, time::Duration};

use landfall_brokers::RedisStreamSettings;
use landfall_hooks::{HookName, Transport, format::cloud_event};
use landfall_test_services::Redis as Server;
use redis::aio::MultiplexedConnection;

use crate::broker::{
    SOURCE, all_told, assert_arrived, deliver_all, failure, never_hangs, outlives, sample,
    takes_no_questions, told,
};

const STREAM: &str = "landfall:events";

type Entry = HashMap<String, Vec<u8>>;

fn transport(url: &str, change: impl FnOnce(&mut RedisStreamSettings)) -> Arc<dyn Transport> {
    let mut settings = RedisStreamSettings::new(url);
    settings.source = SOURCE.into();
    change(&mut settings);
    Arc::new(landfall_brokers::redis::transport(settings).unwrap())
}

async fn client(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn entries(client: &mut MultiplexedConnection) -> Vec<Entry> {
    let mut range = redis::cmd("XRANGE");
    range.arg(STREAM).arg("-").arg("+");
    let entries: Vec<(String, Entry)> = range.query_async(client).await.unwrap();
    entries.into_iter().map(|(_, fields)| fields).collect()
}

fn bodies(entries: Vec<Entry>) -> Vec<Vec<u8>> {
    let body = |mut fields: Entry| fields.remove("data").unwrap();
    entries.into_iter().map(body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_added_with_its_fields() {
    let server = Server::start();
    let mut client = client(&server).await;
    let redis = transport(&server.url(), |_| {});
    let sent = all_told();
    for message in &sent {
        redis.deliver(message).await.unwrap();
    }
    let entries = entries(&mut client).await;
    assert_eq!(entries.len(), sent.len());
    for (fields, message) in entries.iter().zip(&sent) {
        let expected: Entry = [
            ("id", message.id.as_bytes().to_vec()),
            ("event", message.hook.as_str().into()),
            ("upload", message.upload.id.as_bytes().to_vec()),
            ("data", cloud_event(message, SOURCE)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        assert_eq!(fields, &expected);
    }
    takes_no_questions(&*redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_in_order() {
    for (uploads, each) in [(1, 1_000), (200, 5)] {
        let server = Server::start();
        let redis = transport(&server.url(), |_| {});
        let sent = deliver_all(&redis, uploads, each).await;
        let entries = entries(&mut client(&server).await).await;
        assert_arrived(&sent, &bodies(entries));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_is_trimmed_to_the_configured_length() {
    let server = Server::start();
    let mut client = client(&server).await;
    let short = transport(&server.url(), |settings| settings.max_length = 100);
    deliver_all(&short, 1, 1_000).await;
    let kept = entries(&mut client).await.len();
    // Redis trims in nodes of a hundred entries.
    assert!((100..400).contains(&kept), "{kept}");
    let all = transport(&server.url(), |settings| settings.max_length = 0);
    deliver_all(&all, 1, 1_000).await;
    assert_eq!(entries(&mut client).await.len(), kept + 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnects_after_a_restart() {
    let mut server = Server::start();
    let redis = transport(&server.url(), |_| {});
    let after = outlives(&*redis, &mut server, Server::stop, Server::restart).await;
    // The server loses its data on restart.
    let kept = bodies(entries(&mut client(&server).await).await);
    assert_arrived(&[after], &kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejection_by_redis_keeps_the_connection() {
    let server = Server::start();
    let url = server.url();
    let wrong = url.replace("://", "://landfall:wrong-password@");
    let text = failure(&*transport(&wrong, |_| {}), &told("a", 1))
        .await
        .to_string();
    assert!(text.contains("Redis"), "{text}");
    assert!(!text.contains("wrong-password"), "{text}");

    let mut client = client(&server).await;
    let mut set = redis::cmd("SET");
    set.arg(STREAM).arg("no stream");
    set.exec_async(&mut client).await.unwrap();
    let redis = transport(&url, |_| {});
    let finished = sample(HookName::PostFinish);
    let text = failure(&*redis, &finished).await.to_string();
    assert!(
        text.contains("WRONGTYPE") && text.contains(STREAM),
        "{text}"
    );
    let mut del = redis::cmd("DEL");
    del.arg(STREAM).exec_async(&mut client).await.unwrap();
    redis.deliver(&finished).await.unwrap();
    let mut connected = redis::cmd("CLIENT");
    let list: String = connected
        .arg("LIST")
        .query_async(&mut client)
        .await
        .unwrap();
    assert_eq!(list.lines().count(), 2, "one of ours, one of the test's");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_or_absent_broker_times_out() {
    never_hangs(|address, tls| {
        let scheme = if tls { "rediss" } else { "redis" };
        let mut settings = RedisStreamSettings::new(format!("{scheme}://{address}"));
        settings.timeout = Duration::from_millis(500);
        Box::new(landfall_brokers::redis::transport(settings).unwrap())
    })
    .await;
}

#[test]
fn invalid_settings_are_named() {
    let error = landfall_brokers::redis::transport(RedisStreamSettings::new("http://:secret@host"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("http://:***@host"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let mut settings = RedisStreamSettings::new("rediss://host");
    settings.stream = String::new();
    let error = landfall_brokers::redis::transport(settings)
        .unwrap_err()
        .to_string();
    assert!(error.contains("name"), "{error}");
}
