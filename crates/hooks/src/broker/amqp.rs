//! AMQP 0-9-1, as RabbitMQ speaks it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Confirmation, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    uri::AMQPUri,
};

use super::{
    CONTENT_TYPE, SOURCE, SettingsError, TIMEOUT,
    link::{Broker, Link, Trouble},
    public,
    template::Template,
};
use crate::{Failure, Message, Reaction, Transport, format};

const PERSISTENT: u8 = 2;

/// Where and how to publish.
#[derive(Clone)]
#[non_exhaustive]
pub struct AmqpSettings {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS; the virtual host `/` is written
    /// `%2f`, or left out with its slash.
    pub url: String,
    /// The exchange, which must be there. Empty is the default one, whose routing keys are names of
    /// queues.
    pub exchange: String,
    /// The routing key; `{event}` is the message's name. `landfall.{event}`.
    pub routing_key: String,
    /// See [`SOURCE`].
    pub source: String,
    /// The most deliveries at once, each of which takes a channel. 32.
    pub parallel: usize,
    /// See [`TIMEOUT`].
    pub timeout: Duration,
}

impl AmqpSettings {
    /// Publishes to the default exchange of this broker.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            exchange: String::new(),
            routing_key: "landfall.{event}".into(),
            source: SOURCE.into(),
            parallel: 32,
            timeout: TIMEOUT,
        }
    }
}

impl fmt::Debug for AmqpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpSettings")
            .field("url", &public(&self.url))
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .finish_non_exhaustive()
    }
}

/// Publishes events to an exchange: persistent, with `message-id` (the message's id), `type`
/// (`io.landfall.upload.post-finish`, …), `timestamp` and `content-type`.
///
/// A delivery is done when the broker has confirmed it, which a durable queue does once the message
/// is on its disk. A message that no queue takes is a failure, too.
#[derive(Debug)]
pub struct Amqp {
    link: Link<Exchange>,
}

impl Amqp {
    /// Reads the settings; connects later.
    ///
    /// # Errors
    /// A URL that is none, or a name that is too long or holds other braces than `{event}`.
    pub fn new(settings: AmqpSettings) -> Result<Self, SettingsError> {
        let read: Result<AMQPUri, String> = settings.url.parse();
        let uri = read.map_err(|why| {
            let url = public(&settings.url);
            SettingsError(format!("AMQP URL {url:?}: {why}"))
        })?;
        let routing_key = Template::new("AMQP routing key", &settings.routing_key)?;
        // With room for the longest name of an event.
        for (what, text, most) in [
            ("exchange", &settings.exchange, 255),
            ("routing key", &settings.routing_key, 240),
        ] {
            if text.len() > most {
                let text = format!("AMQP {what} {text:?} is longer than {most} bytes");
                return Err(SettingsError(text));
            }
        }
        let (parallel, timeout) = (settings.parallel, settings.timeout);
        let exchange = Exchange {
            uri,
            routing_key,
            settings,
        };
        Ok(Self {
            link: Link::new(exchange, parallel, timeout),
        })
    }
}

#[async_trait]
impl Transport for Amqp {
    fn name(&self) -> &str {
        "amqp"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        self.link.deliver(message).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.link.check().await
    }
}

struct Exchange {
    uri: AMQPUri,
    routing_key: Template,
    settings: AmqpSettings,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// The broker tells that no queue took a message before it confirms it, but not which one it was. So
/// each delivery has a channel to itself.
struct Connection {
    connection: lapin::Connection,
    idle: Mutex<Vec<Channel>>,
}

impl Connection {
    async fn channel(&self) -> Result<Channel, lapin::Error> {
        let idle = self.idle().pop();
        if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an error means: one of a channel leaves the others as they are.
    fn trouble(&self, error: lapin::Error) -> Trouble {
        let failure = Failure::because(format!("the AMQP broker: {error}"), error);
        if self.connection.status().connected() {
            Trouble::Refused(failure)
        } else {
            Trouble::Broken(failure)
        }
    }
}

#[async_trait]
impl Broker for Exchange {
    type Connection = Arc<Connection>;

    const NAME: &'static str = "the AMQP broker";

    async fn dial(&self) -> Result<Arc<Connection>, Failure> {
        let properties = ConnectionProperties::default().with_connection_name("landfall".into());
        let connection = lapin::Connection::connect_uri(self.uri.clone(), properties)
            .await
            .map_err(|why| {
                Failure::because(format!("cannot connect to the AMQP broker: {why}"), why)
            })?;
        Ok(Arc::new(Connection {
            connection,
            idle: Mutex::default(),
        }))
    }

    async fn publish(
        &self,
        connection: &Arc<Connection>,
        message: &Message,
    ) -> Result<(), Trouble> {
        let routing_key = self.routing_key.fill(message.hook);
        let mut properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message.id.as_str().into())
            .with_type(message.hook.cloud_event_kind().into())
            .with_app_id("landfall".into());
        if let Ok(since) = message.at.duration_since(UNIX_EPOCH) {
            properties = properties.with_timestamp(since.as_secs());
        }
        let body = format::cloud_event(message, &self.settings.source);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (exchange, key) = (&self.settings.exchange, &routing_key);
        let confirmed = async {
            // One whose delivery was given up is closed when it is dropped.
            let channel = connection.channel().await?;
            let (exchange, key) = (exchange.as_str().into(), key.as_str().into());
            let confirmed = channel
                .basic_publish(exchange, key, options, &body, properties)
                .await?
                .await?;
            connection.idle().push(channel);
            Ok(confirmed)
        };
        let refused = |why: String| {
            let to = format!("exchange {exchange:?}, routing key {routing_key:?}");
            Err(Trouble::Refused(Failure::new(format!("{to}: {why}"))))
        };
        match confirmed.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                refused(format!("no queue takes it ({})", returned.reply_text))
            }
            Ok(Confirmation::Nack(None)) => refused("the AMQP broker did not keep it".into()),
            Ok(Confirmation::NotRequested) => refused("the AMQP broker confirms nothing".into()),
            Err(error) => Err(connection.trouble(error)),
        }
    }
}
