//! NATS, with and without JetStream.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, RequestErrorKind, ServerAddr, ServerError,
    jetstream::{
        self,
        context::{ContextBuilder, PublishErrorKind},
        message::PublishMessage,
    },
};
use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use super::{
    CONTENT_TYPE, SOURCE, SettingsError, TIMEOUT,
    link::{Broker, Link, Trouble},
    public,
    template::Template,
};
use crate::{Failure, Message, Reaction, Transport, format, transport::in_full};

/// Where and how to publish.
#[derive(Clone)]
#[non_exhaustive]
pub struct NatsSettings {
    /// URLs of servers of one cluster, separated by commas: `nats://host:4222`, `tls://host`, with
    /// `user:password@` or `token@` before the host if need be.
    pub servers: String,
    /// A file with a user's JWT and key, as `nsc` writes them.
    pub credentials_file: Option<PathBuf>,
    /// The subject; `{event}` is the message's name. `landfall.{event}`.
    pub subject: String,
    /// Whether a stream has to acknowledge. The stream is yours; it must take the subjects.
    pub jetstream: bool,
    /// See [`SOURCE`].
    pub source: String,
    /// The most deliveries at once. 64.
    pub parallel: usize,
    /// See [`TIMEOUT`].
    pub timeout: Duration,
}

impl NatsSettings {
    /// Publishes by core NATS on these servers.
    #[must_use]
    pub fn new(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            credentials_file: None,
            subject: "landfall.{event}".into(),
            jetstream: false,
            source: SOURCE.into(),
            parallel: 64,
            timeout: TIMEOUT,
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.split(',').map(public).collect();
        f.debug_struct("NatsSettings")
            .field("servers", &servers)
            .field("subject", &self.subject)
            .field("jetstream", &self.jetstream)
            .finish_non_exhaustive()
    }
}

/// Publishes events to NATS; headers are `Content-Type` and `Nats-Msg-Id` (the message's id).
///
/// With JetStream a delivery is done when the stream has stored it, which knows a message that comes
/// again by its id. Core NATS keeps nothing and acknowledges nothing: a delivery is done when the
/// server has taken the message, by the answer to a request that follows it, and who does not listen
/// at that moment never gets it. A message that the server drops because this user may not publish it
/// is noticed as a rule, but for sure only with JetStream.
///
/// The user needs the right to publish the subjects and to publish and subscribe to `_INBOX.>`.
#[derive(Debug)]
pub struct Nats {
    link: Link<Server>,
}

impl Nats {
    /// Reads the settings; connects later.
    ///
    /// # Errors
    /// A URL that is none, or a subject that can't be one.
    pub fn new(settings: NatsSettings) -> Result<Self, SettingsError> {
        let mut addresses = Vec::new();
        let mut login = None;
        for url in settings.servers.split(',') {
            let (address, found) = read(url.trim())?;
            if login.is_some() && found.is_some() && login != found {
                let text = "NATS URLs with different users: they have to be of one cluster";
                return Err(SettingsError(text.into()));
            }
            login = login.or(found);
            addresses.push(address);
        }
        let subject = Template::new("NATS subject", &settings.subject)?;
        let words = settings.subject.split('.');
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>');
        if words
            .into_iter()
            .any(|word| word.is_empty() || word.contains(odd))
        {
            let text = &settings.subject;
            let text =
                format!("NATS subject {text:?}: words between dots, without *, > and blanks");
            return Err(SettingsError(text));
        }
        let (parallel, timeout) = (settings.parallel, settings.timeout);
        let server = Server {
            addresses,
            login,
            subject,
            settings,
        };
        Ok(Self {
            link: Link::new(server, parallel, timeout),
        })
    }
}

#[async_trait]
impl Transport for Nats {
    fn name(&self) -> &str {
        "nats"
    }

    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        self.link.deliver(message).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.link.check().await
    }
}

/// The address in a URL, and the user in it, whom the client library overlooks.
fn read(url: &str) -> Result<(ServerAddr, Option<Login>), SettingsError> {
    let wrong = |why: &dyn fmt::Display| {
        let url = public(url);
        SettingsError(format!("NATS URL {url:?}: {why}"))
    };
    let address: ServerAddr = url.parse().map_err(|why| wrong(&why))?;
    if address.is_websocket() {
        return Err(wrong(&"only nats:// and tls:// are spoken"));
    }
    if address.host().is_empty() {
        return Err(wrong(&"there is no host in it"));
    }
    let text = |encoded: &str| {
        let decoded = percent_decode_str(encoded).decode_utf8();
        let decoded = decoded.map_err(|_| wrong(&"user or password are no UTF-8"))?;
        Ok(decoded.into_owned())
    };
    let password = address.password().map(text).transpose()?;
    let login = match (address.username().map(text).transpose()?, password) {
        (Some(user), Some(password)) => Some(Login::User(user, password)),
        (Some(token), None) => Some(Login::Token(token)),
        (None, _) => None,
    };
    let mut bare = address.into_inner();
    // Neither fails on a URL with a host.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    Ok((
        ServerAddr::from_url(bare).map_err(|why| wrong(&why))?,
        login,
    ))
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    User(String, String),
    Token(String),
}

struct Server {
    addresses: Vec<ServerAddr>,
    login: Option<Login>,
    subject: Template,
    settings: NatsSettings,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

#[derive(Clone)]
struct Connection {
    client: Client,
    jetstream: Option<jetstream::Context>,
    health: watch::Receiver<Health>,
}

/// What the client heard outside of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    Fine,
    /// Broken, or good for nothing any more, for this reason.
    Over(String),
}

#[async_trait]
impl Broker for Server {
    type Connection = Connection;

    const NAME: &'static str = "NATS";

    async fn dial(&self) -> Result<Connection, Failure> {
        let (tell, health) = watch::channel(Health::Fine);
        let mut options = ConnectOptions::new()
            .name("landfall")
            .connection_timeout(self.settings.timeout)
            // One round; the link sees to the rest, and to what was under way.
            .max_reconnects(self.addresses.len())
            .event_callback(move |event| {
                let over = match event {
                    Event::Disconnected | Event::Closed => Some("the connection broke".to_owned()),
                    Event::ServerError(ServerError::SlowConsumer(_)) => None,
                    Event::ServerError(error) => Some(error.to_string()),
                    _ => None,
                };
                if let Some(why) = over {
                    tell.send_replace(Health::Over(why));
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
            options = read.map_err(|why| {
                let text = format!("cannot read NATS credentials in {}: {why}", file.display());
                Failure::because(text, why)
            })?;
        }
        let client = options.connect(&self.addresses[..]).await.map_err(|why| {
            Failure::because(format!("cannot connect to NATS: {}", in_full(&why)), why)
        })?;
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

    async fn publish(&self, connection: &Connection, message: &Message) -> Result<(), Trouble> {
        let mut health = connection.health.clone();
        let over = async {
            match health.wait_for(|health| *health != Health::Fine).await {
                Ok(health) => match &*health {
                    Health::Over(why) => why.clone(),
                    Health::Fine => String::new(),
                },
                Err(_) => "the connection is gone".to_owned(),
            }
        };
        let subject = self.subject.fill(message.hook);
        let payload = format::cloud_event(message, &self.settings.source);
        tokio::select! {
            // A refusal that came before the answer is seen first.
            biased;
            why = over => Err(Trouble::Broken(Failure::new(format!("NATS: {why}")))),
            sent = send(connection, &subject, message, payload) => sent,
        }
    }
}

async fn send(
    connection: &Connection,
    subject: &str,
    message: &Message,
    payload: Vec<u8>,
) -> Result<(), Trouble> {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", CONTENT_TYPE);
    headers.insert("Nats-Msg-Id", message.id.as_str());
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
            Err(error) => Err(not_stored(&subject, error)),
        };
    }
    let client = &connection.client;
    let broken = |text: String| Trouble::Broken(Failure::new(text));
    if let Err(error) = client
        .publish_with_headers(subject, headers, payload.into())
        .await
    {
        let text = format!("NATS did not take the message: {}", in_full(&error));
        return Err(Trouble::Refused(Failure::because(text, error)));
    }
    // The server works off a connection in order: if it answers this, it has the message. Nobody
    // listens there, and it says so.
    match client.request(client.new_inbox(), "".into()).await {
        Ok(_) => {}
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {}
        Err(error) => return Err(broken(format!("NATS does not answer: {}", in_full(&error)))),
    }
    // What it said before the answer goes through another task.
    tokio::task::yield_now().await;
    match &*connection.health.borrow() {
        Health::Fine => Ok(()),
        Health::Over(why) => Err(broken(format!("NATS: {why}"))),
    }
}

fn not_stored(subject: &str, error: jetstream::context::PublishError) -> Trouble {
    match error.kind() {
        PublishErrorKind::StreamNotFound => Trouble::Refused(Failure::because(
            format!("no JetStream stream takes the subject {subject:?}"),
            error,
        )),
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
            let text = format!("JetStream did not acknowledge: {}", in_full(&error));
            Trouble::Broken(Failure::because(text, error))
        }
        _ => {
            let text = format!("JetStream did not store the message: {}", in_full(&error));
            Trouble::Refused(Failure::because(text, error))
        }
    }
}
