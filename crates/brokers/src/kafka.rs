//! Kafka.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use landfall_hooks::{DeliveryError, Message, Transport};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use rustls::ClientConfig;
use tokio::sync::Mutex;

use crate::{
    CONTENT_TYPE, DEFAULT_SOURCE, DEFAULT_TIMEOUT,
    connection::{Broker, BrokerTransport, PublishError},
};
use landfall_hooks::{SettingsError, format};

/// Far larger than the topic list of a large cluster.
const MAX_RESPONSE_SIZE: usize = 16 << 20;

/// As in Kafka's client.
const METADATA_MAX_AGE: Duration = Duration::from_secs(300);

/// Settings of a [`transport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KafkaSettings {
    /// Comma-separated bootstrap brokers, `host:port`.
    pub brokers: String,
    /// The topic, which must exist; `landfall-events` by default.
    pub topic: String,
    /// Enables TLS with the system's certificate authorities.
    pub tls: bool,
    /// The SASL credentials, if needed.
    pub login: Option<KafkaLogin>,
    /// See [`DEFAULT_SOURCE`].
    pub source: String,
    /// Maximum concurrent deliveries; 64 by default.
    pub max_concurrency: usize,
    /// See [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
}

impl KafkaSettings {
    /// Creates default settings for the cluster of these brokers.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: "landfall-events".into(),
            tls: false,
            login: None,
            source: DEFAULT_SOURCE.into(),
            max_concurrency: 64,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// SASL credentials.
#[derive(Clone)]
pub struct KafkaLogin {
    /// The mechanism.
    pub mechanism: KafkaMechanism,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for KafkaLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLogin")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// `PLAIN`: the password in plain text; use it with TLS only.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
}

struct Cluster {
    brokers: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    settings: KafkaSettings,
}

/// Creates a transport that publishes events to a topic, with the ordering key as the record key.
///
/// Records have the header `content-type` and the time of the event. A delivery succeeds when all
/// in-sync replicas have the record (`acks=all`). The partition is the one that Kafka's Java client
/// chooses for the key, so an upload's events are in one partition, in order. Kafka does not drop
/// duplicates; the id is in the CloudEvent.
///
/// # Errors
/// A broker or the topic is invalid, or the system has no certificate authorities for TLS.
pub fn transport(settings: KafkaSettings) -> Result<impl Transport, SettingsError> {
    let brokers = settings.brokers.split(',').map(|broker| {
        let broker = broker.trim();
        let host = broker.rsplit_once(':').filter(|(host, port)| {
            !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok()
        });
        host.ok_or_else(|| SettingsError(format!("Kafka broker {broker:?} is not host:port")))?;
        Ok(broker.to_owned())
    });
    let brokers = brokers.collect::<Result<Vec<_>, _>>()?;
    let topic = &settings.topic;
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(is_valid) {
        let text =
            format!("Kafka topic {topic:?}: use up to 249 of letters, digits, '.', '_' and '-'");
        return Err(SettingsError(text));
    }
    let tls = settings.tls.then(tls).transpose()?;
    let (max_concurrency, timeout) = (settings.max_concurrency, settings.timeout);
    let cluster = Cluster {
        brokers,
        tls,
        settings,
    };
    Ok(BrokerTransport::new(cluster, max_concurrency, timeout))
}

fn tls() -> Result<Arc<ClientConfig>, SettingsError> {
    let config = landfall_net::system_certificates(true).and_then(landfall_net::client_config);
    let config = config.map_err(|error| SettingsError(format!("TLS for Kafka: {error}")))?;
    Ok(Arc::new(config))
}

struct Connection {
    client: Client,
    topic: Mutex<Topic>,
}

struct Topic {
    partitions: Vec<i32>,
    refreshed_at: Instant,
    leaders: HashMap<i32, Arc<PartitionClient>>,
}

#[async_trait]
impl Broker for Cluster {
    type Connection = Arc<Connection>;

    const TRANSPORT: &'static str = "kafka";
    const NAME: &'static str = "Kafka";

    async fn connect(&self) -> Result<Arc<Connection>, DeliveryError> {
        let mut builder = ClientBuilder::new(self.brokers.clone())
            .client_id("landfall")
            .max_message_size(MAX_RESPONSE_SIZE)
            // Enough for a leader election; `BrokerTransport` handles longer failures.
            .backoff_config(BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(1),
                base: 2.0,
                deadline: Some(self.settings.timeout / 5),
            });
        if let Some(tls) = &self.tls {
            builder = builder.tls_config(Arc::clone(tls));
        }
        if let Some(login) = &self.settings.login {
            let credentials = Credentials::new(login.user.clone(), login.password.clone());
            builder = builder.sasl_config(match login.mechanism {
                KafkaMechanism::Plain => SaslConfig::Plain(credentials),
                KafkaMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                KafkaMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
            });
        }
        let failed = |error| DeliveryError::caused_by("cannot connect to Kafka", error);
        let client = builder.build().await.map_err(failed)?;
        let topic = Topic::fetch(&client, &self.settings.topic).await?;
        Ok(Arc::new(Connection {
            client,
            topic: Mutex::new(topic),
        }))
    }

    async fn publish(
        &self,
        connection: &Arc<Connection>,
        message: &Message,
    ) -> Result<(), PublishError> {
        let key = message.ordering_key();
        let key = key.as_bytes();
        let leader = connection.leader(&self.settings.topic, key).await?;
        let trace = message.trace_headers();
        let headers = trace.chain([("content-type", CONTENT_TYPE)]);
        let record = Record {
            key: Some(key.to_vec()),
            value: Some(format::cloud_event(message, &self.settings.source)),
            headers: headers
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            timestamp: DateTime::<Utc>::from(message.at),
        };
        let produced = leader.produce(vec![record], Compression::NoCompression);
        produced.await.map(drop).map_err(publish_error)
    }
}

impl Connection {
    async fn leader(&self, name: &str, key: &[u8]) -> Result<Arc<PartitionClient>, PublishError> {
        let mut topic = self.topic.lock().await;
        if topic.refreshed_at.elapsed() > METADATA_MAX_AGE {
            *topic = Topic::fetch(&self.client, name)
                .await
                .map_err(PublishError::Connection)?;
        }
        // `fetch` returns at least one partition.
        let number = topic.partitions[partition(key, topic.partitions.len())];
        if let Some(leader) = topic.leaders.get(&number) {
            return Ok(Arc::clone(leader));
        }
        let leader = (self.client).partition_client(name, number, UnknownTopicHandling::Error);
        let leader = Arc::new(leader.await.map_err(publish_error)?);
        topic.leaders.insert(number, Arc::clone(&leader));
        Ok(leader)
    }
}

impl Topic {
    async fn fetch(client: &Client, name: &str) -> Result<Self, DeliveryError> {
        let failed = |error| DeliveryError::caused_by("failed to list Kafka topics", error);
        let topics = client.list_topics().await.map_err(failed)?;
        let found = topics.into_iter().filter(|topic| topic.name == name);
        let mut partitions: Vec<i32> = found.flat_map(|topic| topic.partitions).collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            return Err(DeliveryError::new(format!("Kafka has no topic {name:?}")));
        }
        Ok(Self {
            partitions,
            refreshed_at: Instant::now(),
            leaders: HashMap::new(),
        })
    }
}

fn publish_error(error: Error) -> PublishError {
    // These errors concern the message only, the connection still works.
    let is_rejection = matches!(
        error,
        Error::ServerError {
            protocol_error: ProtocolError::MessageTooLarge
                | ProtocolError::InvalidRecord
                | ProtocolError::CorruptMessage
                | ProtocolError::TopicAuthorizationFailed
                | ProtocolError::NotEnoughReplicas
                | ProtocolError::NotEnoughReplicasAfterAppend
                | ProtocolError::PolicyViolation,
            ..
        }
    );
    let failure = DeliveryError::caused_by("Kafka did not take the message", error);
    PublishError::new(failure, !is_rejection)
}

/// `count` is not zero.
pub(super) fn partition(key: &[u8], count: usize) -> usize {
    // The Java client clears the sign.
    (murmur2(key) & 0x7fff_ffff) as usize % count
}

fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (chunks, rest) = data.as_chunks::<4>();
    for chunk in chunks {
        let mut k = u32::from_le_bytes(*chunk).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod partition_tests {
    use super::*;

    /// From `UtilsTest.testMurmur2` in Kafka's source.
    #[test]
    fn matches_kafkas_test_vectors() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn every_partition_is_used() {
        let mut seen = [0; 12];
        for n in 0..1_200 {
            seen[partition(format!("upload-{n}").as_bytes(), 12)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }
}
