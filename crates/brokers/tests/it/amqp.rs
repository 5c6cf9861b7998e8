//! AMQP 0-9-1, with a real RabbitMQ.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use landfall_brokers::{AmqpSettings, amqp};
use landfall_hooks::{HookName, Transport, format::cloud_event};
use landfall_test_services::RabbitMq;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    message::BasicGetMessage,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::broker::{
    SOURCE, all_told, assert_arrived, deliver_all, failure, never_hangs, outlives,
    takes_no_questions, told,
};

fn transport(url: &str, exchange: &str) -> Arc<dyn Transport> {
    let mut settings = AmqpSettings::new(url);
    settings.source = SOURCE.into();
    settings.exchange = exchange.into();
    Arc::new(amqp::transport(settings).unwrap())
}

/// Creates a durable topic exchange and a durable queue of this name for all its events.
async fn consumer(url: &str, name: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            name.into(),
            ExchangeKind::Topic,
            exchange,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let queue = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), queue, FieldTable::default())
        .await
        .unwrap();
    channel
        .queue_bind(
            name.into(),
            name.into(),
            "landfall.*".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    (connection, channel)
}

async fn next(channel: &Channel, queue: &str) -> Option<BasicGetMessage> {
    let options = BasicGetOptions { no_ack: true };
    channel.basic_get(queue.into(), options).await.unwrap()
}

async fn bodies(channel: &Channel, queue: &str) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some(message) = next(channel, queue).await {
        bodies.push(message.delivery.data);
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_reaches_the_queue_with_its_properties() {
    let url = RabbitMq::shared().url();
    let (_connection, channel) = consumer(&url, "properties").await;
    let amqp = transport(&url, "properties");
    for message in all_told() {
        amqp.deliver(&message).await.unwrap();
        let got = next(&channel, "properties").await.unwrap().delivery;
        assert_eq!(got.exchange.as_str(), "properties");
        assert_eq!(
            got.routing_key.as_str(),
            format!("landfall.{}", message.hook)
        );
        assert_eq!(got.data, cloud_event(&message, SOURCE));
        let properties = &got.properties;
        let text = |property: &Option<lapin::types::ShortString>| {
            property.as_ref().map(|text| text.as_str().to_owned())
        };
        assert_eq!(
            text(properties.content_type()).unwrap(),
            "application/cloudevents+json"
        );
        assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
        assert_eq!(text(properties.message_id()).unwrap(), message.id);
        assert_eq!(
            text(properties.kind()).unwrap(),
            match message.hook {
                HookName::UploadStarted => "io.landfall.upload.started".to_owned(),
                HookName::UploadProgress => "io.landfall.upload.progress".to_owned(),
                HookName::UploadCompleted => "io.landfall.upload.completed".to_owned(),
                HookName::UploadCancelled => "io.landfall.upload.cancelled".to_owned(),
                HookName::UploadFailed => "io.landfall.upload.failed".to_owned(),
                HookName::UploadExpired => "io.landfall.upload.expired".to_owned(),
                hook => format!("io.landfall.upload.{hook}"),
            }
        );
        let headers = properties.headers().clone().unwrap_or_default();
        for (name, value) in message.trace_headers() {
            let value = lapin::types::AMQPValue::LongString(value.into());
            assert_eq!(headers.inner().get(name), Some(&value));
        }
        let at = message.at.duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(*properties.timestamp(), Some(at));
    }
    takes_no_questions(&*amqp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_in_order() {
    let url = RabbitMq::shared().url();
    for (queue, uploads, each) in [("order-one", 1, 1_000), ("order-many", 200, 5)] {
        let (_connection, channel) = consumer(&url, queue).await;
        let sent = deliver_all(&transport(&url, queue), uploads, each).await;
        assert_arrived(&sent, &bodies(&channel, queue).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unroutable_message_is_a_failure_of_that_message_alone() {
    let url = RabbitMq::shared().url();
    let (_connection, channel) = consumer(&url, "routes").await;
    let mut settings = AmqpSettings::new(&url);
    settings.source = SOURCE.into();
    settings.exchange = "routes".into();
    settings.routing_key = "elsewhere.{event}".into();
    let lost = amqp::transport(settings.clone()).unwrap();
    let text = failure(&lost, &told("a", 1)).await.to_string();
    assert!(text.contains("elsewhere.post-finish"), "{text}");
    assert!(text.contains("NO_ROUTE"), "{text}");

    // Of concurrent messages, exactly the unroutable ones fail.
    channel
        .queue_bind(
            "routes".into(),
            "routes".into(),
            "*.post-create".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let half: Arc<dyn Transport> = Arc::new(amqp::transport(settings).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..400 {
        let half = Arc::clone(&half);
        tasks.spawn(async move {
            let mut message = told(&format!("u{n}"), n);
            let routed = n % 2 == 0;
            if routed {
                message.hook = landfall_hooks::HookName::PostCreate;
            }
            let delivered = half.deliver(&message).await;
            assert_eq!(delivered.is_ok(), routed, "{n}: {delivered:?}");
            routed.then_some(message)
        });
    }
    let sent: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_arrived(&sent, &bodies(&channel, "routes").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_exchange_is_a_failure_until_it_exists() {
    let url = RabbitMq::shared().url();
    let amqp = transport(&url, "later");
    for n in 1..=3 {
        let text = failure(&*amqp, &told("a", n)).await.to_string();
        assert!(text.contains("later"), "{text}");
    }
    let (_connection, channel) = consumer(&url, "later").await;
    let message = told("a", 4);
    amqp.deliver(&message).await.unwrap();
    assert_arrived(&[message], &bodies(&channel, "later").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn default_exchange_routes_by_queue_name() {
    let url = RabbitMq::shared().url();
    let (_connection, channel) = consumer(&url, "direct").await;
    let mut settings = AmqpSettings::new(&url);
    settings.routing_key = "direct".into();
    settings.source = SOURCE.into();
    let message = told("a", 1);
    let amqp = amqp::transport(settings).unwrap();
    amqp.deliver(&message).await.unwrap();
    assert_arrived(&[message], &bodies(&channel, "direct").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnects_after_a_restart_without_losing_confirmed_messages() {
    let mut server = tokio::task::block_in_place(RabbitMq::start);
    let url = server.url();
    let (connection, _) = consumer(&url, "restart").await;
    let amqp = transport(&url, "restart");
    let after = outlives(&*amqp, &mut server, RabbitMq::stop, RabbitMq::restart).await;
    drop(connection);
    let (_connection, channel) = consumer(&url, "restart").await;
    let kept = bodies(&channel, "restart").await;
    assert_arrived(&[told("before", 1), after], &kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_reported_but_not_shown() {
    let url = RabbitMq::shared()
        .url()
        .replace("guest@", "wrong-password@");
    let text = failure(&*transport(&url, ""), &told("a", 1))
        .await
        .to_string();
    assert!(
        text.contains("ACCESS_REFUSED") || text.contains("refused"),
        "{text}"
    );
    assert!(!text.contains("wrong-password"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_or_absent_broker_times_out() {
    never_hangs(|address, tls| {
        let scheme = if tls { "amqps" } else { "amqp" };
        let mut settings = AmqpSettings::new(format!("{scheme}://{address}"));
        settings.timeout = Duration::from_millis(500);
        Box::new(amqp::transport(settings).unwrap())
    })
    .await;
}

#[test]
fn invalid_settings_are_named() {
    for (change, word) in [
        (
            (|settings| settings.url = "http://me:secret@host".into()) as fn(&mut AmqpSettings),
            "http://me:***@host",
        ),
        (|settings| settings.routing_key = "{x}".into(), "{event}"),
        (|settings| settings.exchange = "x".repeat(256), "255"),
    ] {
        let mut settings = AmqpSettings::new("amqp://host");
        change(&mut settings);
        let error = amqp::transport(settings).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
