//! Notifications of PostgreSQL. All listeners of a process share one connection, which is open while there is one.
//!
//! It is not taken from the pool, which a long-lived connection could exhaust. A listener that is too slow, or a
//! lost connection, ends all of them: each has to assume that notifications were lost.

use std::{collections::HashMap, time::Duration};

use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    Connections, DatabaseError, Statement,
    postgres::{ACQUIRE_TIMEOUT, Server, Subscription},
};

/// The connection is tested at this interval.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const LISTENER_TIMEOUT: Duration = Duration::from_secs(2);
/// Notifications of one listener.
const MAX_WAITING: usize = 1024;
const MAX_SUBSCRIPTIONS: usize = 16;

impl Connections {
    /// Returns a listener for notifications; the first one opens the connection, and checks that they arrive.
    ///
    /// # Errors
    /// The database failed; or [`DatabaseError::NoNotifications`] on SQLite and behind PgBouncer in transaction
    /// mode.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn listener(&self) -> Result<Listener, DatabaseError> {
        let server = self.postgres().ok_or(DatabaseError::NoNotifications)?;
        if !server.has_notifications() {
            return Err(DatabaseError::NoNotifications);
        }
        let mut shared = server.notifications.0.lock().await;
        let open = shared.as_ref().filter(|open| !open.is_closed());
        let subscriptions = match open {
            Some(open) => open.clone(),
            None => {
                let (sender, receiver) = mpsc::channel(MAX_SUBSCRIPTIONS);
                let (this, connected) = (self.clone(), server.clone());
                self.run(async move {
                    let connection = connect(&this, &connected).await?;
                    tokio::spawn(dispatch(connection, receiver));
                    Ok::<_, DatabaseError>(())
                })
                .await?;
                shared.insert(sender).clone()
            }
        };
        let (sender, payloads) = mpsc::channel(MAX_WAITING);
        Ok(Listener {
            subscriptions,
            sender,
            payloads,
        })
    }
}

/// Receives the notifications of some channels.
#[derive(Debug)]
pub struct Listener {
    subscriptions: mpsc::Sender<Subscription>,
    sender: mpsc::Sender<String>,
    payloads: mpsc::Receiver<String>,
}

impl Listener {
    /// Subscribes to a channel.
    ///
    /// # Errors
    /// The connection was lost.
    ///
    /// # Cancel safety
    /// Dropped, the subscription may have taken effect.
    pub async fn listen(&mut self, channel: &str) -> Result<(), DatabaseError> {
        let (has_started, started) = oneshot::channel();
        let subscription = Subscription {
            channel: channel.to_owned(),
            payloads: self.sender.clone(),
            has_started,
        };
        let sent = self.subscriptions.send(subscription).await;
        sent.map_err(|_| DatabaseError::NotificationsLost)?;
        started.await.map_err(|_| DatabaseError::NotificationsLost)
    }

    /// Waits for the next notification and returns its payload.
    ///
    /// # Errors
    /// The connection was lost, and notifications with it.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn receive(&mut self) -> Result<String, DatabaseError> {
        let payload = tokio::select! {
            biased;
            payload = self.payloads.recv() => payload,
            () = self.subscriptions.closed() => None,
        };
        payload.ok_or(DatabaseError::NotificationsLost)
    }
}

async fn connect(connections: &Connections, server: &Server) -> Result<PgListener, DatabaseError> {
    server.available().await?;
    let options = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = options.connect_lazy_with(server.options());
    let mut listener = match Box::pin(PgListener::connect_with(&pool)).await {
        Ok(listener) => listener,
        Err(sqlx::Error::PoolTimedOut) => {
            return Err(DatabaseError::NoConnection {
                timeout: ACQUIRE_TIMEOUT,
                reason: server.explain().await,
            });
        }
        Err(error) => return Err(error.into()),
    };
    // A lost connection is reported, since notifications are lost with it.
    listener.eager_reconnect(false);
    check(&mut listener, connections).await?;
    Ok(listener)
}

/// Checks that notifications arrive. Through PgBouncer in transaction mode, LISTEN succeeds nevertheless.
async fn check(listener: &mut PgListener, connections: &Connections) -> Result<(), DatabaseError> {
    // A separate channel: PgBouncer would leave LISTEN active for other clients.
    let channel = format!("landfall_test_{:016x}", rand::random::<u64>());
    in_time(listener.listen(&channel)).await?;
    let notify = Statement::new("SELECT CAST(pg_notify($1, '') AS TEXT)");
    match connections.read(notify.with(channel.as_str())).await {
        Err(DatabaseError::Postgres(error)) if is_of_pgbouncer(&error) => {
            return Err(DatabaseError::NoNotifications);
        }
        notified => drop(notified?),
    }
    match timeout(LISTENER_TIMEOUT, Box::pin(listener.try_recv())).await {
        Ok(Ok(Some(_))) => in_time(listener.unlisten(&channel)).await,
        // PgBouncer delivered it to another client.
        Ok(Err(sqlx::Error::Protocol(_))) | Err(_) => Err(DatabaseError::NoNotifications),
        Ok(Ok(None)) => Err(DatabaseError::NotificationsLost),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// PgBouncer delivered a notification to this connection, or mixed up prepared statements.
fn is_of_pgbouncer(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("26000" | "42P05"))
        }
        _ => false,
    }
}

/// The listeners of each channel.
type Channels = HashMap<String, Vec<mpsc::Sender<String>>>;

async fn dispatch(mut listener: PgListener, mut subscriptions: mpsc::Receiver<Subscription>) {
    let mut channels = Channels::new();
    let mut tick = interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            Some(new) = subscriptions.recv() => subscribe(&mut listener, &mut channels, new).await,
            received = listener.try_recv() => match received {
                Ok(Some(notification)) => deliver(&channels, &notification),
                Ok(None) => Err(DatabaseError::NotificationsLost),
                Err(error) => Err(error.into()),
            },
            _ = tick.tick() => maintain(&mut listener, &mut channels).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the connection for notifications ends");
            return;
        }
        // No listener has a sender: the other one is that of `Notifications`.
        if channels.is_empty() && subscriptions.sender_strong_count() == 1 {
            return;
        }
    }
}

async fn subscribe(
    listener: &mut PgListener,
    channels: &mut Channels,
    new: Subscription,
) -> Result<(), DatabaseError> {
    if !channels.contains_key(&new.channel) {
        in_time(listener.listen(&new.channel)).await?;
    }
    channels.entry(new.channel).or_default().push(new.payloads);
    // Dropped, the listener is removed later.
    let _ = new.has_started.send(());
    Ok(())
}

fn deliver(channels: &Channels, notification: &PgNotification) -> Result<(), DatabaseError> {
    for payloads in channels.get(notification.channel()).into_iter().flatten() {
        let sent = payloads.try_send(notification.payload().to_owned());
        if let Err(mpsc::error::TrySendError::Full(_)) = sent {
            return Err(DatabaseError::NotificationsLost);
        }
    }
    Ok(())
}

/// Leaves channels without a listener, and tests the connection.
async fn maintain(listener: &mut PgListener, channels: &mut Channels) -> Result<(), DatabaseError> {
    for listeners in channels.values_mut() {
        listeners.retain(|payloads| !payloads.is_closed());
    }
    let unused = channels.extract_if(|_, listeners| listeners.is_empty());
    for (channel, _) in unused.collect::<Vec<_>>() {
        in_time(listener.unlisten(&channel)).await?;
    }
    in_time(sqlx::query("SELECT 1").execute(listener))
        .await
        .map(drop)
}

async fn in_time<T>(
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseError> {
    let done = timeout(LISTENER_TIMEOUT, Box::pin(call)).await;
    Ok(done.map_err(|_| DatabaseError::Timeout(LISTENER_TIMEOUT))??)
}
