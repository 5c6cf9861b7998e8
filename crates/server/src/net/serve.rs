use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tower_service::Service;

use super::addresses::Admission;
use super::body::Body;
use super::driver::{Driver, Protocols};
use super::edge::Link;
use super::info::ConnectionInfo;
use super::limits::Limits;
use super::listener::Listener;
use super::shutdown::{Shutdown, Step};
use super::stats::NetStats;
use super::watch::{Gate, sweep};
use super::wire::Wire;
use super::workers::Workers;

/// Time for dropped connections to be gone; nothing of ours takes any.
const DROP_TIME: Duration = Duration::from_secs(1);

/// Serves HTTP on all `listeners` until `shutdown` is over.
///
/// Each request carries a [`ConnectionInfo`] among its extensions. `service` is cloned for each
/// request and asked for readiness before each call. A panic in it ends the connection it happened
/// on and no other.
///
/// After [`Shutdown::begin`] the listeners are closed and running requests have the grace time; then
/// bodies still being read end with [`BodyError::ShuttingDown`](super::BodyError::ShuttingDown) and
/// the answer time begins; then what is still open is dropped. Returns as soon as no connection is
/// left and `drained` has resolved: it is polled once all connections have closed, for work of the
/// service that outlives its requests and runs on the same threads.
///
/// # Errors
/// `listeners` is empty, or the threads that [`Limits::workers`] asks for can't be started.
///
/// # Cancel safety
/// Dropping the future stops accepting; connections that are open go on without timers. Use
/// `shutdown`.
pub async fn serve<S, B>(
    listeners: Vec<Listener>,
    service: S,
    limits: Limits,
    shutdown: Shutdown,
    stats: Arc<NetStats>,
    drained: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if listeners.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "nothing to listen on",
        ));
    }
    let max = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    let max = max.clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
    let permits = Arc::new(Semaphore::new(max as usize));
    let workers = Arc::new(Workers::start(limits.workers)?);
    let gate = Arc::new(Gate::new(limits, stats));
    let protocols = Arc::new(Protocols::new(&gate));

    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sweep(gate.clone()));
    for listener in listeners {
        let acceptor = Acceptor {
            listener,
            service: service.clone(),
            protocols: protocols.clone(),
            permits: permits.clone(),
            gate: gate.clone(),
            workers: workers.clone(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.begun() => {}
                () = acceptor.run() => {}
            }
        });
    }

    shutdown.begun().await;
    let all_closed = async {
        // Every open connection holds a permit. The semaphore is never closed.
        let _ = permits.acquire_many(max).await;
        drained.await;
    };
    tokio::pin!(all_closed);
    let steps = [
        (Step::Draining, shutdown.grace()),
        (Step::Cutting, shutdown.answer()),
        (Step::Dropping, DROP_TIME),
    ];
    for (step, time) in steps {
        shutdown.advance(step);
        gate.advance(step);
        if tokio::time::timeout(time, &mut all_closed).await.is_ok() {
            break;
        }
    }
    tasks.shutdown().await;
    Ok(())
}

struct Acceptor<S> {
    listener: Listener,
    service: S,
    protocols: Arc<Protocols>,
    permits: Arc<Semaphore>,
    gate: Arc<Gate>,
    workers: Arc<Workers>,
}

impl<S, B> Acceptor<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn run(self) {
        let mut full = Complaint::default();
        let mut failing = Complaint::default();
        let mut pause = Duration::ZERO;
        let stats = self.gate.stats.clone();
        loop {
            let permit = match self.permits.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    NetStats::add(&stats.full, 1);
                    full.say(|| {
                        tracing::warn!(
                            limit = self.gate.limits.max_connections,
                            "connection limit reached: further clients wait"
                        );
                    });
                    // The semaphore is never closed.
                    let vacancy = self.permits.clone().acquire_owned();
                    let Ok(permit) = self.gate.wait_for(vacancy).await else {
                        return;
                    };
                    permit
                }
            };
            let (stream, peer, local) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    NetStats::add(&stats.accept_errors, 1);
                    if !gone_already(&error) {
                        // File descriptors or memory exhausted: trying at once would only spin.
                        pause = (pause * 2).clamp(Duration::from_millis(5), Duration::from_secs(1));
                        failing.say(|| tracing::error!(%error, "can't accept connections"));
                        drop(permit);
                        tokio::time::sleep(pause).await;
                    }
                    continue;
                }
            };
            pause = Duration::ZERO;
            NetStats::add(&stats.accepted, 1);
            let (share, over) = match self.gate.addresses.connect(peer.ip()) {
                Admission::Free(share) => (share, false),
                Admission::Over(share) => (Some(share), true),
                Admission::Dropped => {
                    NetStats::add(&stats.address_connections, 1);
                    continue;
                }
            };
            let info = ConnectionInfo::new(peer, local);
            let link = Link::new(self.gate.clone(), info, share, over);
            let (service, protocols) = (self.service.clone(), self.protocols.clone());
            let stream = match stream.leave() {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "connection ended");
                    continue;
                }
            };
            self.workers.spawn(async move {
                match stream.enter() {
                    Ok(stream) => {
                        let wire = Wire::new(stream, link.clone());
                        Driver::new(wire, link, service, protocols, permit).await;
                    }
                    Err(error) => tracing::debug!(%error, "connection ended"),
                }
            });
        }
    }
}

/// Whether an error of `accept` is about one connection only.
fn gone_already(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected
    )
}

/// Something to be logged once a minute at most.
#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
}

impl Complaint {
    fn say(&mut self, log: impl FnOnce()) {
        if self
            .last
            .is_none_or(|last| last.elapsed() >= Duration::from_secs(60))
        {
            self.last = Some(Instant::now());
            log();
        }
    }
}
