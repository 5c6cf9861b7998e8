//! Kafka.

mod partition;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::sync::Mutex;

use self::partition::partition;
use super::{
    CONTENT_TYPE, SOURCE, SettingsError, TIMEOUT,
    link::{Broker, Link, Trouble},
};
use crate::{Failure, Message, Reaction, Transport, format};

/// The list of all topics of a large cluster is by far smaller.
const LARGEST_ANSWER: usize = 16 << 20;

/// How old what is known about the topic may get, as with Kafka's own client.
const METADATA_AGE: Duration = Duration::from_secs(300);

/// Where and how to publish.
#[derive(Clone)]
#[non_exhaustive]
pub struct KafkaSettings {
    /// Some of the brokers, `host:port`, separated by commas.
    pub brokers: String,
    /// The topic, which must be there. `landfall-events`.
    pub topic: String,
    /// Whether to speak TLS, with the system's certificate authorities.
    pub tls: bool,
    /// How to log in, if need be.
    pub login: Option<KafkaLogin>,
    /// See [`SOURCE`].
    pub source: String,
    /// The most deliveries at once. 64.
    pub parallel: usize,
    /// See [`TIMEOUT`].
    pub timeout: Duration,
}

impl KafkaSettings {
    /// Publishes to the topic `landfall-events` of the cluster that these brokers belong to.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: "landfall-events".into(),
            tls: false,
            login: None,
            source: SOURCE.into(),
            parallel: 64,
            timeout: TIMEOUT,
        }
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A user and how to prove to be it (SASL).
#[derive(Clone)]
pub struct KafkaLogin {
    /// How.
    pub mechanism: KafkaMechanism,
    /// The user's name.
    pub user: String,
    /// The user's password.
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

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// `PLAIN`: the password as it is; only with TLS.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
}

/// Publishes events to a topic, with the upload's id as the key, the header `content-type` and the
/// time of the event.
///
/// A delivery is done when all in-sync replicas have it (`acks=all`). The partition follows from the
/// key as in Kafka's Java client, so that what is told about one upload is in one partition, in
/// order. Kafka does not know a message that comes again: its id is in the CloudEvent.
#[derive(Debug)]
pub struct Kafka {
    link: Link<Cluster>,
}

impl Kafka {
    /// Reads the settings; connects later.
    ///
    /// # Errors
    /// A broker that isn't `host:port`, a topic that can't be one, or TLS without any certificate
    /// authority on this system.
    pub fn new(settings: KafkaSettings) -> Result<Self, SettingsError> {
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
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) {
            let text =
                format!("Kafka topic {topic:?}: letters, digits, '.', '_' and '-', up to 249");
            return Err(SettingsError(text));
        }
        let tls = settings.tls.then(tls).transpose()?;
        let (parallel, timeout) = (settings.parallel, settings.timeout);
        let cluster = Cluster {
            brokers,
            tls,
            settings,
        };
        Ok(Self {
            link: Link::new(cluster, parallel, timeout),
        })
    }
}

fn tls() -> Result<Arc<ClientConfig>, SettingsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let text = "TLS for Kafka: this system has no certificate authorities";
        return Err(SettingsError(text.into()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| SettingsError(format!("TLS for Kafka: {why}")))?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

#[async_trait]
impl Transport for Kafka {
    fn name(&self) -> &str {
        "kafka"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        self.link.deliver(message).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.link.check().await
    }
}

struct Cluster {
    brokers: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    settings: KafkaSettings,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

struct Connection {
    client: Client,
    topic: Mutex<Topic>,
}

/// What is known about the topic.
struct Topic {
    partitions: Vec<i32>,
    looked: Instant,
    leaders: HashMap<i32, Arc<PartitionClient>>,
}

#[async_trait]
impl Broker for Cluster {
    type Connection = Arc<Connection>;

    const NAME: &'static str = "Kafka";

    async fn dial(&self) -> Result<Arc<Connection>, Failure> {
        let mut builder = ClientBuilder::new(self.brokers.clone())
            .client_id("landfall")
            .max_message_size(LARGEST_ANSWER)
            // Enough for a change of leader; the link sees to longer troubles.
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
        let client = builder
            .build()
            .await
            .map_err(|why| Failure::because(format!("cannot connect to Kafka: {why}"), why))?;
        let topic = Topic::look(&client, &self.settings.topic).await?;
        Ok(Arc::new(Connection {
            client,
            topic: Mutex::new(topic),
        }))
    }

    async fn publish(
        &self,
        connection: &Arc<Connection>,
        message: &Message,
    ) -> Result<(), Trouble> {
        let lane = message.lane();
        let key = lane.as_bytes();
        let leader = connection.leader(&self.settings.topic, key).await?;
        let record = Record {
            key: Some(key.to_vec()),
            value: Some(format::cloud_event(message, &self.settings.source)),
            headers: BTreeMap::from([("content-type".into(), CONTENT_TYPE.into())]),
            timestamp: DateTime::<Utc>::from(message.at),
        };
        let produced = leader.produce(vec![record], Compression::NoCompression);
        produced.await.map(drop).map_err(trouble)
    }
}

impl Connection {
    async fn leader(&self, name: &str, key: &[u8]) -> Result<Arc<PartitionClient>, Trouble> {
        let mut topic = self.topic.lock().await;
        if topic.looked.elapsed() > METADATA_AGE {
            *topic = Topic::look(&self.client, name)
                .await
                .map_err(Trouble::Broken)?;
        }
        // `look` found at least one.
        let number = topic.partitions[partition(key, topic.partitions.len())];
        if let Some(leader) = topic.leaders.get(&number) {
            return Ok(Arc::clone(leader));
        }
        let leader = self
            .client
            .partition_client(name, number, UnknownTopicHandling::Error)
            .await
            .map_err(trouble)?;
        let leader = Arc::new(leader);
        topic.leaders.insert(number, Arc::clone(&leader));
        Ok(leader)
    }
}

impl Topic {
    async fn look(client: &Client, name: &str) -> Result<Self, Failure> {
        let topics = client.list_topics().await.map_err(|why| {
            let text = format!("Kafka does not tell its topics: {why}");
            Failure::because(text, why)
        })?;
        let found = topics.into_iter().find(|topic| topic.name == name);
        let mut partitions: Vec<i32> = found
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            return Err(Failure::new(format!("Kafka has no topic {name:?}")));
        }
        Ok(Self {
            partitions,
            looked: Instant::now(),
            leaders: HashMap::new(),
        })
    }
}

fn trouble(error: Error) -> Trouble {
    // What is wrong with this message leaves the connection, and others, as they are.
    let ours = matches!(
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
    let failure = Failure::because(format!("Kafka did not take the message: {error}"), error);
    if ours {
        Trouble::Refused(failure)
    } else {
        Trouble::Broken(failure)
    }
}
