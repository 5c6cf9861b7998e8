//! An HTTP proxy between a store and its S3 service that fails calls on purpose.
//!
//! Requests are forwarded unchanged, `Host` included: the store signs for the proxy's address, and the
//! service checks the signature against the address in the request.
//!
//! ```no_run
//! use landfall_test_services::{Garage, Proxy, proxy::{Fault, Operation, Rule}};
//!
//! let proxy = Proxy::start(&Garage::shared().access());
//! let access = Garage::shared().access().through_proxy(&proxy);
//! proxy.inject(Rule::on(Operation::UploadPart).part(2).once(), Fault::CutAfter);
//! // ... let a store at access.endpoint work, then check its calls:
//! assert_eq!(proxy.count(Operation::CompleteMultipartUpload), 1, "{}", proxy.transcript());
//! ```
//!
//! "Killed between any two calls", with a new store for each process:
//!
//! ```no_run
//! # use landfall_test_services::{Access, Garage, Proxy};
//! # async fn work(_: Access) {}
//! # fn check() {}
//! # let proxy = Proxy::start(&Garage::shared().access());
//! for n in 1.. {
//!     proxy.kill_after(n);
//!     let (_, killed) = proxy.run(work);
//!     check();
//!     if !killed {
//!         break; // all of the work took n calls or fewer
//!     }
//! }
//! ```

mod call;
mod fault;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
    task::{JoinSet, block_in_place},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use call::{Call, Operation};
pub use fault::{Fault, Rule};

use crate::Access;
use call::split_path;
use fault::Random;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// After which a forwarded call counts as hanging.
const HANGS: Duration = Duration::from_secs(60);

/// The proxy. It runs in its own thread, independent of the tests' runtimes, and stops when it is
/// dropped. Bodies are buffered in memory.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    access: Access,
    script: Arc<Mutex<Script>>,
    life: watch::Sender<NodeState>,
    end: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

/// Faults to inject, and the recorded calls.
#[derive(Debug, Default)]
struct Script {
    rules: Vec<(Rule, Fault)>,
    random: Option<Random>,
    calls: Vec<Call>,
    /// Calls before the first one in `calls`.
    forgotten: usize,
}

/// The life of the node that sends its calls through the proxy. Calls in flight watch it. It
/// changes only under the lock of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Alive,
    Killed,
}

impl Proxy {
    /// Starts a proxy in front of the service at `access`.
    ///
    /// # Panics
    ///
    /// When there is no port left.
    #[must_use]
    pub fn start(access: &Access) -> Self {
        let (listener, address) = listen();
        let (life, script) = (watch::Sender::new(NodeState::Alive), Arc::default());
        let mut proxy = Self {
            address,
            access: access.clone(),
            script,
            life,
            end: CancellationToken::new(),
            thread: None,
        };
        let serving = proxy.shared().serve(listener, proxy.end.clone());
        proxy.thread = Some(thread::spawn(move || current_thread().block_on(serving)));
        proxy
    }

    fn shared(&self) -> Shared {
        Shared {
            service: self.access.authority().into(),
            script: self.script.clone(),
            life: self.life.clone(),
            exchanges: TaskTracker::new(),
        }
    }

    /// Returns the endpoint for stores.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets a fault happen to the calls that a rule takes. Of several rules, the oldest one that
    /// takes a call decides.
    pub fn inject(&self, rule: Rule, fault: Fault) {
        self.lock().rules.push((rule, fault));
    }

    /// Lets each fault happen at the given rate to the calls that no rule takes. The same seed
    /// gives the same faults as long as calls come in the same order.
    ///
    /// # Panics
    ///
    /// When the rates add up to more than 1.
    pub fn inject_at_random(&self, seed: u64, rates: &[(Fault, f64)]) {
        self.lock().random = Some(Random::new(seed, rates));
    }

    /// Kills the node when `calls` more calls have been answered: those that come afterwards are
    /// cut before they have an effect. With 0, the next call is the first that fails.
    pub fn kill_after(&self, calls: usize) {
        self.inject(Rule::any().skip(calls), Fault::Kill);
    }

    /// Kills the node while it waits for the answer to the `calls`-th call from now on, which
    /// still has its effect.
    ///
    /// # Panics
    ///
    /// When `calls` is 0: there is no such call.
    pub fn kill_during(&self, calls: usize) {
        assert!(calls > 0, "the first call is number 1");
        self.inject(Rule::any().skip(calls - 1), Fault::KillAfter);
    }

    /// Lets nothing through from now on, as if the service was gone.
    pub fn kill(&self) {
        let _script = self.lock();
        self.life.send_replace(NodeState::Killed);
    }

    /// Returns whether a kill has happened.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        *self.life.borrow() == NodeState::Killed
    }

    /// Runs a node, which reaches the proxy at an address of its own, until the node ends or is killed. Returns the
    /// node's result, `None` if a kill came first, and whether there was a kill. Every fault is then removed.
    ///
    /// The node's tasks and connections end with it, as those of a process do. The calls that the proxy has forwarded
    /// take effect before this returns; calls that it has not forwarded never do.
    ///
    /// # Panics
    ///
    /// In a runtime of one thread, and when the service does not respond for a minute.
    pub fn run<T: Send>(&self, node: impl AsyncFnOnce(Access) -> T + Send) -> (Option<T>, bool) {
        let (listener, address) = listen();
        let access = Access {
            endpoint: format!("http://{address}"),
            ..self.access.clone()
        };
        let end = CancellationToken::new();
        let shared = self.shared();
        let exchanges = shared.exchanges.clone();
        let serving = async {
            shared.serve(listener, end.clone()).await;
            exchanges.close();
            let ended = timeout(HANGS, exchanges.wait()).await;
            ended.expect("the service does not respond");
        };
        let live = || {
            // It ends here, with all tasks.
            let runtime = runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = node(access) => Some(ended),
                    () = self.killed() => None,
                }
            })
        };
        let ended = block_in_place(|| {
            thread::scope(|scope| {
                scope.spawn(|| current_thread().block_on(serving));
                let ended = scope.spawn(live).join();
                end.cancel();
                ended
            })
        });
        let killed = self.is_dead();
        self.revive();
        match ended {
            Ok(ended) => (ended, killed),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Waits for a kill, so that a test can drop what the node was doing. Cancel safe.
    pub async fn killed(&self) {
        let _ = self
            .life
            .subscribe()
            .wait_for(|life| *life == NodeState::Killed)
            .await;
    }

    /// Removes every fault, kills included; keeps the recorded calls.
    pub fn revive(&self) {
        let mut script = self.lock();
        script.rules.clear();
        script.random = None;
        self.life.send_replace(NodeState::Alive);
    }

    /// Forgets the calls that were recorded.
    pub fn forget(&self) {
        let mut script = self.lock();
        script.forgotten += script.calls.len();
        script.calls.clear();
    }

    /// All calls since the start, or since [`Self::forget`].
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Returns the number of recorded calls of an operation.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        self.counts().get(&operation).copied().unwrap_or(0)
    }

    /// Returns the number of recorded calls by operation.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Operation, usize> {
        let mut counts = BTreeMap::new();
        for call in &self.lock().calls {
            *counts.entry(call.operation).or_default() += 1;
        }
        counts
    }

    /// The recorded calls, one a line, for the message of a test that fails.
    #[must_use]
    pub fn transcript(&self) -> String {
        let mut story = String::from("the calls were:\n");
        for call in &self.lock().calls {
            let _ = writeln!(story, "  {call}");
        }
        story
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Shared {
    service: Arc<str>,
    script: Arc<Mutex<Script>>,
    life: watch::Sender<NodeState>,
    /// Requests that are sent to the service, whose clients may be gone.
    exchanges: TaskTracker,
}

fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Serves until `end`, which cuts the connections.
    async fn serve(self, listener: std::net::TcpListener, end: CancellationToken) {
        let listener = TcpListener::from_std(listener).unwrap();
        let mut connections = JoinSet::new();
        let accept = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let shared = self.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { shared.handle(request).await }
                    });
                    // A fault ends the connection by an error, which is meant.
                    let _ = server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
                while connections.try_join_next().is_some() {}
            }
        };
        end.run_until_cancelled(accept).await;
        connections.shutdown().await;
    }

    /// Answers a request, or breaks its connection by an error.
    async fn handle(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let mut life = self.life.subscribe();
        let (head, body) = request.into_parts();
        let (bucket, key) = split_path(head.uri.path());
        let mut call = Call {
            number: 0,
            operation: Operation::of(&head.method, &head.uri, &head.headers),
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            bucket,
            key,
            bytes: 0,
            fault: Fault::Pass,
            status: None,
            answered: false,
        };
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        call.bytes = body.len();

        let (number, fault) = self.decide(call);
        let work = self.perform(Request::from_parts(head, body), number, fault);
        // A call in flight still reaches the service when the node is killed, but gets no response.
        let mut work = pin!(work);
        let answer = tokio::select! {
            answer = &mut work => answer?,
            _ = life.changed() => {
                let _ = work.await;
                return Err(cut());
            }
        };
        self.update(number, |call| call.answered = fault != Fault::CutAnswer);
        Ok(answer)
    }

    /// Numbers and records a call, and returns its fault.
    fn decide(&self, mut call: Call) -> (usize, Fault) {
        let mut script = self.lock();
        call.number = script.forgotten + script.calls.len() + 1;
        call.fault = if *self.life.borrow() == NodeState::Killed {
            Fault::Kill
        } else {
            script.choose(&call)
        };
        if call.fault == Fault::Kill {
            self.life.send_replace(NodeState::Killed);
        }
        let decided = (call.number, call.fault);
        script.calls.push(call);
        decided
    }

    /// Adds to the record of a call, unless it was forgotten.
    fn update(&self, number: usize, change: impl FnOnce(&mut Call)) {
        let mut script = self.lock();
        let index = number.checked_sub(script.forgotten + 1);
        if let Some(call) = index.and_then(|index| script.calls.get_mut(index)) {
            change(call);
        }
    }

    async fn perform(
        &self,
        request: Request<Bytes>,
        number: usize,
        fault: Fault,
    ) -> io::Result<Response<Body>> {
        match fault {
            Fault::Pass => {}
            Fault::Delay(time) => {
                let shared = self.clone();
                let late = tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    shared.forward(request, number).await
                });
                return late.await.map_err(io::Error::other)?;
            }
            Fault::DelayAnswer(time) => {
                let answer = self.forward(request, number).await;
                tokio::time::sleep(time).await;
                return answer;
            }
            Fault::Answer { status, code } => return Ok(refusal(status, code)),
            Fault::NoParts => {
                let body = "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>";
                return Ok(Response::new(whole(body.into())));
            }
            Fault::AnswerAfter { status, code } => {
                let _ = self.forward(request, number).await;
                return Ok(refusal(status, code));
            }
            Fault::CutBefore | Fault::Kill => return Err(cut()),
            Fault::CutInside => {
                if !request.body().is_empty() {
                    self.forward_half(request).await;
                }
                return Err(cut());
            }
            Fault::CutAfter => {
                let _ = self.forward(request, number).await;
                return Err(cut());
            }
            Fault::CutAnswer => {
                let (head, body) = self.forward(request, number).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                return Ok(Response::from_parts(head, half_of(body)));
            }
            Fault::Duplicate => {
                let answer = self.forward(request.clone(), number).await;
                let _ = self.send(request).await;
                return answer;
            }
            Fault::Echo(time) => {
                let echo = request.clone();
                let shared = self.clone();
                let answer = self.forward(request, number).await;
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    let _ = shared.send(echo).await;
                });
                return answer;
            }
            Fault::KillAfter => {
                let _ = self.forward(request, number).await;
                let _script = self.lock();
                self.life.send_replace(NodeState::Killed);
                return Err(cut());
            }
        }
        self.forward(request, number).await
    }

    /// Sends a request to the service and notes the status.
    async fn forward(&self, request: Request<Bytes>, number: usize) -> io::Result<Response<Body>> {
        let answer = self.send(request).await?;
        self.update(number, |call| call.status = Some(answer.status().as_u16()));
        Ok(answer)
    }

    /// Sends a request to the service, even if this is dropped.
    async fn send(&self, request: Request<Bytes>) -> io::Result<Response<Body>> {
        let exchange = exchange(self.service.clone(), request);
        let exchanged = self.exchanges.spawn(exchange).await;
        exchanged.map_err(io::Error::other)?
    }

    /// Sends the first half of a body and closes the connection.
    async fn forward_half(&self, request: Request<Bytes>) {
        let (mut head, body) = request.into_parts();
        head.headers
            .insert(header::CONTENT_LENGTH, body.len().into());
        let Ok(stream) = TcpStream::connect(&*self.service).await else {
            return;
        };
        let Ok((mut sender, connection)) =
            client::conn::http1::handshake(TokioIo::new(stream)).await
        else {
            return;
        };
        let connection = tokio::spawn(connection);
        let _ = sender
            .send_request(Request::from_parts(head, half_of(body)))
            .await;
        drop(sender);
        let _ = connection.await;
    }
}

async fn exchange(service: Arc<str>, request: Request<Bytes>) -> io::Result<Response<Body>> {
    let request = request.map(http_body_util::Full::new);
    let stream = TcpStream::connect(&*service).await?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    head.headers.remove(header::TRANSFER_ENCODING);
    head.headers.remove(header::CONNECTION);
    Ok(Response::from_parts(head, whole(body)))
}

impl Script {
    fn choose(&mut self, call: &Call) -> Fault {
        self.rules
            .iter_mut()
            .find_map(|(rule, fault)| rule.takes(call).then_some(*fault))
            .or_else(|| self.random.as_mut().map(Random::next))
            .unwrap_or(Fault::Pass)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose")
}

fn whole(body: Bytes) -> Body {
    http_body_util::Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that breaks in its middle.
fn half_of(body: Bytes) -> Body {
    let half = Frame::data(body.slice(..body.len() / 2));
    let end = async {
        // Or the error would overtake the bytes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(cut())
    };
    StreamBody::new(stream::iter([Ok(half)]).chain(stream::once(end))).boxed_unsync()
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>injected</Message><RequestId>injected</RequestId></Error>"
    );
    let mut response = Response::new(whole(body.into()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/xml"),
    );
    response
}
