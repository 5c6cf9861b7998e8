//! AMQP 0-9-1 (RabbitMQ).

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use landfall_hooks::{DeliveryError, Message, Transport};
use lapin::{
    BasicProperties, Channel, Confirmation, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use parking_lot::Mutex;

use crate::{
    CONTENT_TYPE, DEFAULT_SOURCE, DEFAULT_TIMEOUT,
    connection::{Broker, BrokerTransport, PublishError},
    template::{check_template, render},
};
use landfall_hooks::{SecretUrl, SettingsError, format};

const PERSISTENT: u8 = 2;

/// Settings of a [`transport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AmqpSettings {
    /// The URL: `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS.
    ///
    /// The virtual host `/` is `%2f`, or omitted together with its slash.
    pub url: SecretUrl,
    /// The exchange, which must exist. Empty for the default exchange, whose routing keys are queue
    /// names.
    pub exchange: String,
    /// The routing key, with `{event}` for the message's name; `landfall.{event}` by default.
    pub routing_key: String,
    /// See [`DEFAULT_SOURCE`].
    pub source: String,
    /// Maximum concurrent deliveries, each on its own channel; 32 by default.
    pub max_concurrency: usize,
    /// See [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
}

impl AmqpSettings {
    /// Creates default settings for the default exchange of this broker.
    #[must_use]
    pub fn new(url: impl Into<SecretUrl>) -> Self {
        Self {
            url: url.into(),
            exchange: String::new(),
            routing_key: "landfall.{event}".into(),
            source: DEFAULT_SOURCE.into(),
            max_concurrency: 32,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

struct Exchange {
    uri: AMQPUri,
    settings: AmqpSettings,
}

/// Creates a transport that publishes persistent messages to an exchange.
///
/// Properties are `message-id` (the message id), `type` (`io.landfall.upload.post-finish`, …),
/// `timestamp` and `content-type`.
///
/// A delivery succeeds when the broker has confirmed it, which a durable queue does after writing
/// to disk. A message that no queue receives is a failure.
///
/// # Errors
/// The URL is invalid, or a name is too long or has placeholders other than `{event}`.
pub fn transport(settings: AmqpSettings) -> Result<impl Transport, SettingsError> {
    let read: Result<AMQPUri, String> = settings.url.as_str().parse();
    let uri = read.map_err(|error| {
        let url = landfall_net::redacted_url(settings.url.as_str());
        SettingsError(format!("AMQP URL {url:?}: {error}"))
    })?;
    check_template("AMQP routing key", &settings.routing_key)?;
    // Reserves space for the longest event name.
    for (what, text, max_len) in [
        ("exchange", &settings.exchange, 255),
        ("routing key", &settings.routing_key, 240),
    ] {
        if text.len() > max_len {
            let text = format!("AMQP {what} {text:?} is longer than {max_len} bytes");
            return Err(SettingsError(text));
        }
    }
    let (max_concurrency, timeout) = (settings.max_concurrency, settings.timeout);
    let exchange = Exchange { uri, settings };
    Ok(BrokerTransport::new(exchange, max_concurrency, timeout))
}

/// The broker returns an unroutable message before it confirms it, but without saying which one it was.
/// So each delivery has its own channel.
struct Connection {
    connection: lapin::Connection,
    idle: Mutex<Vec<Channel>>,
}

impl Connection {
    async fn channel(&self) -> Result<Channel, lapin::Error> {
        let idle = self.idle.lock().pop();
        if let Some(channel) = idle.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.connection.create_channel().await?;
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await?;
        Ok(channel)
    }

    /// An error of a channel leaves the connection open.
    fn publish_error(&self, error: lapin::Error) -> PublishError {
        let failure = DeliveryError::caused_by(Exchange::NAME, error);
        PublishError::new(failure, !self.connection.status().connected())
    }
}

#[async_trait]
impl Broker for Exchange {
    type Connection = Arc<Connection>;

    const TRANSPORT: &'static str = "amqp";
    const NAME: &'static str = "the AMQP broker";

    async fn connect(&self) -> Result<Arc<Connection>, DeliveryError> {
        let properties = ConnectionProperties::default().with_connection_name("landfall".into());
        let connection = lapin::Connection::connect_uri(self.uri.clone(), properties).await;
        let failed = |error| DeliveryError::caused_by("cannot connect to the AMQP broker", error);
        let connection = connection.map_err(failed)?;
        Ok(Arc::new(Connection {
            connection,
            idle: Mutex::default(),
        }))
    }

    async fn publish(
        &self,
        connection: &Arc<Connection>,
        message: &Message,
    ) -> Result<(), PublishError> {
        let routing_key = render(&self.settings.routing_key, message.hook);
        let mut properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message.id.as_str().into())
            .with_type(message.hook.cloud_event_kind().into())
            .with_app_id("landfall".into());
        let mut headers = FieldTable::default();
        for (name, value) in message.trace_headers() {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        if message.trace.is_some() {
            properties = properties.with_headers(headers);
        }
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
            // If the delivery is cancelled, the channel is dropped and closed.
            let channel = connection.channel().await?;
            let (exchange, key) = (exchange.as_str().into(), key.as_str().into());
            let published = channel.basic_publish(exchange, key, options, &body, properties);
            let confirmed = published.await?.await?;
            connection.idle.lock().push(channel);
            Ok(confirmed)
        };
        let rejected = |error: String| {
            let to = format!("exchange {exchange:?}, routing key {routing_key:?}");
            let failure = DeliveryError::new(format!("{to}: {error}"));
            Err(PublishError::Rejected(failure))
        };
        match confirmed.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => rejected(
                format!("no queue receives the message ({})", returned.reply_text),
            ),
            Ok(Confirmation::Nack(None)) => rejected("the AMQP broker rejected the message".into()),
            Ok(Confirmation::NotRequested) => {
                rejected("the AMQP broker does not confirm messages".into())
            }
            Err(error) => Err(connection.publish_error(error)),
        }
    }
}
