//! Kafka, with librdkafka's mock cluster and consumer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use landfall_brokers::{
    KafkaSettings,
    kafka::{self, KafkaLogin, KafkaMechanism},
};
use landfall_hooks::{Transport, format::cloud_event};
use landfall_test_services::{Kafka as Cluster, Record};

use crate::broker::{
    SOURCE, all_told, assert_arrived, deliver_all, failure, never_hangs, outlives,
    takes_no_questions, told, until_delivered,
};
use crate::samples::TRACEPARENT;

const TOPIC: &str = "landfall-events";
const MESSAGE_TOO_LARGE: i16 = 10;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

fn cluster(partitions: u32) -> Cluster {
    tokio::task::block_in_place(|| {
        let cluster = Cluster::start();
        cluster.topic(TOPIC, partitions);
        cluster
    })
}

fn transport(cluster: &Cluster, change: impl FnOnce(&mut KafkaSettings)) -> Arc<dyn Transport> {
    let mut settings = KafkaSettings::new(cluster.brokers());
    settings.source = SOURCE.into();
    change(&mut settings);
    Arc::new(kafka::transport(settings).unwrap())
}

fn records(cluster: &Cluster) -> Vec<Record> {
    tokio::task::block_in_place(|| cluster.records(TOPIC))
}

fn bodies(records: &[Record]) -> Vec<Vec<u8>> {
    let body = |record: &Record| record.value.clone().into_bytes();
    records.iter().map(body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_a_record_with_key_header_and_time() {
    let cluster = cluster(1);
    let kafka = transport(&cluster, |_| {});
    let sent = all_told();
    for message in &sent {
        kafka.deliver(message).await.unwrap();
    }
    let records = records(&cluster);
    assert_eq!(records.len(), sent.len());
    for (record, message) in records.iter().zip(&sent) {
        let at = message.at.duration_since(UNIX_EPOCH).unwrap().as_millis();
        let expected = Record {
            partition: 0,
            key: match message.job {
                Some(_) => "job:12".to_owned(),
                None => message.upload.id.clone(),
            },
            value: String::from_utf8(cloud_event(message, SOURCE)).unwrap(),
            headers: BTreeMap::from([
                ("content-type", "application/cloudevents+json"),
                ("traceparent", TRACEPARENT),
                ("tracestate", "vendor=1"),
            ])
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
            timestamp: i64::try_from(at).unwrap(),
        };
        assert_eq!(record, &expected);
    }
    takes_no_questions(&*kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_upload_are_in_order_in_one_partition() {
    for (uploads, each) in [(1, 1_000), (200, 5)] {
        let cluster = cluster(6);
        let kafka = transport(&cluster, |_| {});
        let sent = deliver_all(&kafka, uploads, each).await;
        let records = records(&cluster);
        assert_arrived(&sent, &bodies(&records));
        let mut partitions: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for record in &records {
            let of = partitions.entry(&record.key).or_default();
            of.insert(record.partition);
        }
        assert!(partitions.values().all(|of| of.len() == 1));
        let used: BTreeSet<_> = partitions.values().flatten().collect();
        assert_eq!(used.len(), if uploads == 1 { 1 } else { 6 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_match_the_java_client() {
    let cluster = cluster(12);
    let kafka = transport(&cluster, |_| {});
    // These hashes are from Kafka's tests, without their sign, modulo 12.
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("abc", 479_470_107),
    ] {
        kafka.deliver(&told(key, 1)).await.unwrap();
        let records = records(&cluster);
        let record = records.iter().find(|record| record.key == key).unwrap();
        assert_eq!(record.partition, i64::from(hash & i32::MAX) % 12, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnects_after_a_restart() {
    let mut cluster = cluster(3);
    let kafka = transport(&cluster, |_| {});
    let after = outlives(&*kafka, &mut cluster, Cluster::stop, Cluster::restart).await;
    assert_arrived(&[told("before", 1), after], &bodies(&records(&cluster)));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partition_leader_is_used() {
    let cluster = cluster(1);
    let kafka = transport(&cluster, |_| {});
    let mut sent = Vec::new();
    for n in 1..=12 {
        let broker = u32::try_from(n % 3 + 1).unwrap();
        tokio::task::block_in_place(|| cluster.lead(TOPIC, 0, broker));
        let message = told("a", n);
        until_delivered(&*kafka, &message).await;
        sent.push(message);
    }
    assert_arrived(&sent, &bodies(&records(&cluster)));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topic_is_a_failure_that_names_it() {
    let cluster = cluster(1);
    let kafka = transport(&cluster, |settings| settings.topic = "later".into());
    let text = failure(&*kafka, &told("a", 1)).await.to_string();
    assert!(text.contains("\"later\""), "{text}");
    tokio::task::block_in_place(|| cluster.topic("later", 2));
    until_delivered(&*kafka, &told("a", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_record_is_a_failure_until_kafka_accepts_it() {
    let cluster = cluster(1);
    let kafka = transport(&cluster, |_| {});
    kafka.deliver(&told("a", 1)).await.unwrap();
    for (code, word) in [
        (MESSAGE_TOO_LARGE, "MessageTooLarge"),
        (NOT_ENOUGH_REPLICAS, "NotEnoughReplicas"),
        (TOPIC_AUTHORIZATION_FAILED, "TopicAuthorizationFailed"),
    ] {
        tokio::task::block_in_place(|| cluster.deny(code, 1));
        let text = failure(&*kafka, &told("a", 2)).await.to_string();
        assert!(text.contains(word), "{text}");
        // The connection is still usable.
        kafka.deliver(&told("a", 2)).await.unwrap();
    }
    assert_eq!(records(&cluster).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_login_is_reported_without_the_password() {
    let cluster = cluster(1);
    for mechanism in [
        KafkaMechanism::Plain,
        KafkaMechanism::ScramSha256,
        KafkaMechanism::ScramSha512,
    ] {
        // The mock cluster supports no authentication.
        let kafka = transport(&cluster, |settings| {
            settings.login = Some(KafkaLogin {
                mechanism,
                user: "landfall".into(),
                password: "wrong-password".into(),
            });
            settings.timeout = Duration::from_secs(3);
        });
        let text = failure(&*kafka, &told("a", 1)).await.to_string();
        assert!(text.contains("Kafka"), "{text}");
        assert!(!text.contains("wrong-password"), "{text}");
    }
    assert!(records(&cluster).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_or_absent_broker_times_out() {
    never_hangs(|address, tls| {
        let mut settings = KafkaSettings::new(address);
        settings.tls = tls;
        settings.timeout = Duration::from_millis(500);
        Box::new(kafka::transport(settings).unwrap())
    })
    .await;
}

#[test]
fn invalid_settings_are_named() {
    for (change, word) in [
        (
            (|settings| settings.brokers = "host".into()) as fn(&mut KafkaSettings),
            "\"host\"",
        ),
        (|settings| settings.brokers = "a:1,,b:2".into(), "\"\""),
        (
            |settings| settings.brokers = "kafka://host:1".into(),
            "host:port",
        ),
        (|settings| settings.topic = "a b".into(), "a b"),
        (|settings| settings.topic = String::new(), "topic"),
    ] {
        let mut settings = KafkaSettings::new("host:9092");
        change(&mut settings);
        let error = kafka::transport(settings).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
