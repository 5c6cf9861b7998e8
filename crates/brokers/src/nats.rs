//! NATS, with or without JetStream.

use std::{error::Error, fmt, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, RequestErrorKind, ServerAddr, ServerError,
    jetstream::{
        self,
        context::{ContextBuilder, PublishErrorKind},
        message::PublishMessage,
    },
};
use async_trait::async_trait;
use landfall_hooks::{DeliveryError, Message, Transport, error_chain};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use crate::{
    CONTENT_TYPE, DEFAULT_SOURCE, DEFAULT_TIMEOUT,
    connection::{Broker, BrokerTransport, PublishError},
    template::{check_template, render},
};
use landfall_hooks::{SecretUrl, SettingsError, format};

/// Settings of a [`transport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NatsSettings {
    /// Comma-separated URLs of servers of one cluster: `nats://host:4222`, `tls://host`, with
    /// `user:password@` or `token@` if needed.
    pub servers: SecretUrl,
    /// A file with a user's JWT and key, as written by `nsc`.
    pub credentials_file: Option<PathBuf>,
    /// The subject, with `{event}` for the message's name; `landfall.{event}` by default.
    pub subject: String,
    /// Publishes to JetStream. The stream must exist and include the subjects.
    pub jetstream: bool,
    /// See [`DEFAULT_SOURCE`].
    pub source: String,
    /// Maximum concurrent deliveries; 64 by default.
    pub max_concurrency: usize,
    /// See [`DEFAULT_TIMEOUT`].
    pub timeout: Duration,
}

impl NatsSettings {
    /// Creates default settings for core NATS on these servers.
    #[must_use]
    pub fn new(servers: impl Into<SecretUrl>) -> Self {
        Self {
            servers: servers.into(),
            credentials_file: None,
            subject: "landfall.{event}".into(),
            jetstream: false,
            source: DEFAULT_SOURCE.into(),
            max_concurrency: 64,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

struct Server {
    addresses: Vec<ServerAddr>,
    login: Option<Login>,
    settings: NatsSettings,
}

/// Creates a transport that publishes events to NATS.
///
/// Messages have the headers `Content-Type` and `Nats-Msg-Id` (the message id).
///
/// With JetStream a delivery succeeds when the stream has stored the message; the stream drops
/// duplicates by id. Core NATS neither stores nor acknowledges: a delivery succeeds when the server
/// has received the message, which is known from the response to a request behind it. Consumers
/// that are not connected then never get the message. A message that the server drops for lack of
/// permission is usually detected, but certainly only with JetStream.
///
/// The user needs permission to publish the subjects, and to publish and subscribe to `_INBOX.>`.
///
/// # Errors
/// A URL or the subject is invalid.
pub fn transport(settings: NatsSettings) -> Result<impl Transport, SettingsError> {
    let mut addresses = Vec::new();
    let mut login = None;
    for url in settings.servers.as_str().split(',') {
        let (address, found) = read(url.trim())?;
        if login.is_some() && found.is_some() && login != found {
            let text = "NATS URLs with different users: all servers must be of one cluster";
            return Err(SettingsError(text.into()));
        }
        login = login.or(found);
        addresses.push(address);
    }
    check_template("NATS subject", &settings.subject)?;
    let tokens = settings.subject.split('.');
    let is_invalid = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>');
    let mut tokens = tokens.into_iter();
    if tokens.any(|token| token.is_empty() || token.contains(is_invalid)) {
        let text = &settings.subject;
        let text =
            format!("NATS subject {text:?}: use tokens between dots, without *, > and spaces");
        return Err(SettingsError(text));
    }
    let (max_concurrency, timeout) = (settings.max_concurrency, settings.timeout);
    let server = Server {
        addresses,
        login,
        settings,
    };
    Ok(BrokerTransport::new(server, max_concurrency, timeout))
}

/// The client library ignores credentials in the URL.
fn read(url: &str) -> Result<(ServerAddr, Option<Login>), SettingsError> {
    let invalid = |error: &dyn fmt::Display| {
        let url = landfall_net::redacted_url(url);
        SettingsError(format!("NATS URL {url:?}: {error}"))
    };
    let address: ServerAddr = url.parse().map_err(|error| invalid(&error))?;
    if address.is_websocket() {
        return Err(invalid(&"only nats:// and tls:// are supported"));
    }
    if address.host().is_empty() {
        return Err(invalid(&"it has no host"));
    }
    let text = |encoded: &str| {
        let decoded = percent_decode_str(encoded).decode_utf8();
        let decoded = decoded.map_err(|_| invalid(&"user or password are not UTF-8"))?;
        Ok(decoded.into_owned())
    };
    let password = address.password().map(text).transpose()?;
    let login = match (address.username().map(text).transpose()?, password) {
        (Some(user), Some(password)) => Some(Login::User(user, password)),
        (Some(token), None) => Some(Login::Token(token)),
        (None, _) => None,
    };
    let mut bare = address.into_inner();
    // These do not fail for a URL with a host.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    let bare = ServerAddr::from_url(bare).map_err(|error| invalid(&error))?;
    Ok((bare, login))
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    User(String, String),
    Token(String),
}

#[derive(Clone)]
struct Connection {
    client: Client,
    jetstream: Option<jetstream::Context>,
    health: watch::Receiver<Health>,
}

/// The error of a failed connection.
type Health = Option<String>;

#[async_trait]
impl Broker for Server {
    type Connection = Connection;

    const TRANSPORT: &'static str = "nats";
    const NAME: &'static str = "NATS";

    async fn connect(&self) -> Result<Connection, DeliveryError> {
        let (sender, health) = watch::channel(Health::None);
        let mut options = ConnectOptions::new()
            .name("landfall")
            .connection_timeout(self.settings.timeout)
            // One round of servers; `BrokerTransport` reconnects after that.
            .max_reconnects(self.addresses.len())
            .event_callback(move |event| {
                let failed = match event {
                    Event::Disconnected | Event::Closed => Some("the connection broke".to_owned()),
                    Event::ServerError(ServerError::SlowConsumer(_)) => None,
                    Event::ServerError(error) => Some(error.to_string()),
                    _ => None,
                };
                if let Some(error) = failed {
                    sender.send_replace(Some(error));
                }
                async {}
            });
        options = match self.login.clone() {
            Some(Login::User(user, password)) => options.user_and_password(user, password),
            Some(Login::Token(token)) => options.token(token),
            None => options,
        };
        if let Some(file) = &self.settings.credentials_file {
            let read = options.credentials_file(file).await;
            options = read.map_err(|error| {
                let what = format!("cannot read NATS credentials in {}", file.display());
                DeliveryError::caused_by(what, error)
            })?;
        }
        let client = options.connect(&self.addresses[..]).await;
        let client = client.map_err(|error| chained("cannot connect to NATS", error))?;
        let jetstream = self.settings.jetstream.then(|| {
            ContextBuilder::new()
                .ack_timeout(self.settings.timeout)
                .build(client.clone())
        });
        Ok(Connection {
            client,
            jetstream,
            health,
        })
    }

    async fn publish(
        &self,
        connection: &Connection,
        message: &Message,
    ) -> Result<(), PublishError> {
        let mut health = connection.health.clone();
        let failed = async {
            match health.wait_for(Option::is_some).await {
                Ok(health) => health.clone().unwrap_or_default(),
                Err(_) => "the connection is closed".to_owned(),
            }
        };
        let subject = render(&self.settings.subject, message.hook);
        let payload = format::cloud_event(message, &self.settings.source);
        tokio::select! {
            // Prefer an error that arrived before the acknowledgment.
            biased;
            error = failed => Err(connection_lost(&error)),
            sent = send(connection, &subject, message, payload) => sent,
        }
    }
}

async fn send(
    connection: &Connection,
    subject: &str,
    message: &Message,
    payload: Vec<u8>,
) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", CONTENT_TYPE);
    headers.insert("Nats-Msg-Id", message.id.as_str());
    for (name, value) in message.trace_headers() {
        headers.insert(name, value);
    }
    let subject = subject.to_owned();
    if let Some(jetstream) = &connection.jetstream {
        let publish = PublishMessage::build()
            .headers(headers)
            .payload(payload.into());
        let stored = match jetstream.send_publish(subject.clone(), publish).await {
            Ok(stored) => stored.await,
            Err(error) => Err(error),
        };
        return match stored {
            Ok(_) => Ok(()),
            Err(error) => Err(jetstream_error(&subject, error)),
        };
    }
    let client = &connection.client;
    let published = client.publish_with_headers(subject, headers, payload.into());
    if let Err(error) = published.await {
        let failure = chained("NATS did not take the message", error);
        return Err(PublishError::Rejected(failure));
    }
    // The server processes a connection in order: its response to this request, which has no
    // responders, means that it has the message.
    match client.request(client.new_inbox(), "".into()).await {
        Ok(_) => {}
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {}
        Err(error) => {
            let failure = chained("NATS does not respond", error);
            return Err(PublishError::Connection(failure));
        }
    }
    // Errors before the response arrive through another task.
    tokio::task::yield_now().await;
    match &*connection.health.borrow() {
        None => Ok(()),
        Some(error) => Err(connection_lost(error)),
    }
}

fn jetstream_error(subject: &str, error: jetstream::context::PublishError) -> PublishError {
    match error.kind() {
        PublishErrorKind::StreamNotFound => PublishError::Rejected(DeliveryError::with_source(
            format!("no JetStream stream includes the subject {subject:?}"),
            error,
        )),
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            PublishError::Connection(chained("JetStream did not acknowledge", error))
        }
        _ => PublishError::Rejected(chained("JetStream did not store the message", error)),
    }
}

fn connection_lost(error: &str) -> PublishError {
    PublishError::Connection(DeliveryError::new(format!("NATS: {error}")))
}

/// Adds all causes, since the client's own messages omit them.
fn chained(what: &str, error: impl Error + Send + Sync + 'static) -> DeliveryError {
    DeliveryError::with_source(format!("{what}: {}", error_chain(&error)), error)
}
