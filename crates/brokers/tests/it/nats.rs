//! NATS, with a real server.

use std::{sync::Arc, time::Duration};

use async_nats::{
    ConnectOptions,
    jetstream::{self, consumer::pull, stream},
};
use futures_util::StreamExt;
use landfall_brokers::{NatsSettings, nats};
use landfall_hooks::{HookName, Message, Transport, format::cloud_event};
use landfall_test_services::Nats as Server;

use crate::broker::{
    SOURCE, all_told, assert_arrived, deliver_all, failure, json, never_hangs, outlives, sample,
    takes_no_questions, told,
};

fn transport(url: &str, change: impl FnOnce(&mut NatsSettings)) -> Arc<dyn Transport> {
    let mut settings = NatsSettings::new(url);
    settings.source = SOURCE.into();
    change(&mut settings);
    Arc::new(nats::transport(settings).unwrap())
}

async fn client(server: &Server) -> async_nats::Client {
    let (user, password) = Server::USER;
    let options = ConnectOptions::with_user_and_password(user.into(), password.into());
    options.connect(server.url()).await.unwrap()
}

async fn make_stream(server: &Server) -> stream::Stream {
    let client = client(server).await;
    let config = stream::Config {
        name: "uploads".into(),
        subjects: vec!["landfall.>".into()],
        ..stream::Config::default()
    };
    let context = jetstream::new(client);
    context.create_stream(config).await.unwrap()
}

async fn stored(stream: &stream::Stream) -> Vec<async_nats::Message> {
    let count = stream.get_info().await.unwrap().state.messages;
    let consumer = stream
        .create_consumer(pull::Config::default())
        .await
        .unwrap();
    let messages = consumer.messages().await.unwrap();
    let messages = messages.take(usize::try_from(count).unwrap());
    messages
        .map(|message| message.unwrap().message)
        .collect()
        .await
}

fn assert_is(received: &async_nats::Message, sent: &Message) {
    assert_eq!(received.subject.as_str(), format!("landfall.{}", sent.hook));
    let headers = received.headers.as_ref().unwrap();
    let header = |name: &str| headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header("Content-Type"), "application/cloudevents+json");
    assert_eq!(header("Nats-Msg-Id"), sent.id);
    for (name, value) in sent.trace_headers() {
        assert_eq!(header(name), value);
    }
    assert_eq!(received.payload, cloud_event(sent, SOURCE));
}

#[tokio::test(flavor = "multi_thread")]
async fn core_subscribers_receive_every_event() {
    let server = Server::start();
    let client = client(&server).await;
    let mut heard = client.subscribe("landfall.>").await.unwrap();
    client.flush().await.unwrap();
    // The subscription is active after a round trip.
    let mut echo = client.subscribe("echo").await.unwrap();
    client.publish("echo", "".into()).await.unwrap();
    echo.next().await.unwrap();

    let nats = transport(&server.url(), |_| {});
    for message in all_told() {
        nats.deliver(&message).await.unwrap();
        assert_is(&heard.next().await.unwrap(), &message);
    }
    takes_no_questions(&*nats).await;

    let sent = deliver_all(&nats, 20, 50).await;
    let heard = heard.take(sent.len()).map(|message| message.payload.into());
    assert_arrived(&sent, &heard.collect::<Vec<_>>().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_stores_every_event_in_order() {
    let server = Server::start();
    let stream = make_stream(&server).await;
    let nats = transport(&server.url(), |settings| settings.jetstream = true);
    let finished = sample(HookName::PostFinish);
    nats.deliver(&finished).await.unwrap();
    assert_is(&stored(&stream).await[0], &finished);

    // The stream drops the duplicate by its id.
    nats.deliver(&finished).await.unwrap();
    assert_eq!(stored(&stream).await.len(), 1);

    stream.purge().await.unwrap();
    let one = deliver_all(&nats, 1, 1_000).await;
    let bodies = |messages: Vec<async_nats::Message>| -> Vec<Vec<u8>> {
        let payloads = messages.into_iter().map(|message| message.payload.into());
        payloads.collect()
    };
    assert_arrived(&one, &bodies(stored(&stream).await));
    stream.purge().await.unwrap();
    stream_has_forgotten(&server).await;
    let stream = make_stream(&server).await;
    let many = deliver_all(&nats, 200, 5).await;
    assert_arrived(&many, &bodies(stored(&stream).await));
}

/// The stream remembers ids for two minutes, even after a purge.
async fn stream_has_forgotten(server: &Server) {
    let client = client(server).await;
    let context = jetstream::new(client);
    context.delete_stream("uploads").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_stream_is_a_failure_that_names_the_subject() {
    let server = Server::start();
    let nats = transport(&server.url(), |settings| {
        settings.jetstream = true;
        settings.subject = "landfall.files.{event}".into();
    });
    let text = failure(&*nats, &told("a", 1)).await.to_string();
    assert!(text.contains("landfall.files.post-finish"), "{text}");
    let stream = make_stream(&server).await;
    nats.deliver(&told("a", 1)).await.unwrap();
    let stored = stored(&stream).await;
    assert_eq!(json(&stored[0].payload)["subject"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnects_after_a_restart() {
    for jetstream in [false, true] {
        let mut server = Server::start();
        if jetstream {
            make_stream(&server).await;
        }
        let nats = transport(&server.url(), |settings| settings.jetstream = jetstream);
        outlives(&*nats, &mut server, Server::stop, Server::restart).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_permission_is_a_failure() {
    let server = Server::start();
    let wrong = transport(&server.url_of(("landfall", "wrong")), |_| {});
    let text = failure(&*wrong, &told("a", 1)).await.to_string();
    assert!(text.to_lowercase().contains("authorization"), "{text}");
    assert!(!text.contains("wrong"), "{text}");

    let _stream = make_stream(&server).await;
    for jetstream in [true, false] {
        let limited = transport(&server.url_of(Server::LIMITED), |settings| {
            settings.jetstream = jetstream;
            settings.timeout = Duration::from_secs(3);
        });
        let mut outcome = limited.deliver(&told("a", 1)).await;
        // Core NATS reports a dropped message separately from the confirming request, so the first
        // deliveries may miss it.
        for _ in 0..100 {
            if jetstream || outcome.is_err() {
                break;
            }
            outcome = limited.deliver(&told("a", 1)).await;
        }
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains("ermissions"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_or_absent_broker_times_out() {
    never_hangs(|address, tls| {
        let scheme = if tls { "tls" } else { "nats" };
        let mut settings = NatsSettings::new(format!("{scheme}://{address}"));
        settings.timeout = Duration::from_millis(500);
        Box::new(nats::transport(settings).unwrap())
    })
    .await;
}

#[test]
fn invalid_settings_are_named() {
    for (change, word) in [
        (
            (|settings| settings.servers = "http://me:secret@host".into()) as fn(&mut NatsSettings),
            "http://me:***@host",
        ),
        (|settings| settings.servers = "".into(), "NATS URL"),
        (
            |settings| settings.servers = "ws://a:secret@host".into(),
            "ws://a:***@host",
        ),
        (
            |settings| settings.servers = "nats://a:secret@host,nats://b:secret@host".into(),
            "different users",
        ),
        (|settings| settings.subject = "a.{id}".into(), "{event}"),
        (|settings| settings.subject = "a..b".into(), "a..b"),
        (|settings| settings.subject = "a.>".into(), "a.>"),
    ] {
        let mut settings = NatsSettings::new("nats://host");
        change(&mut settings);
        let error = nats::transport(settings).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
