//! A TCP proxy that injects faults of the network.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A fault of the proxy's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It forwards them.
    None,
    /// It forwards them late.
    Delay(Duration),
    /// It accepts connections and forwards nothing, as a network that drops packets. Connections that
    /// were made meanwhile or before stay dead when the fault is over.
    BlackHole,
    /// It closes connections at once, existing ones as well.
    Cut,
    /// Forwards requests and closes the response direction.
    HalfClose,
}

impl Fault {
    /// Each fault once.
    pub const ALL: [Self; 4] = [
        Self::Delay(Duration::from_millis(100)),
        Self::BlackHole,
        Self::Cut,
        Self::HalfClose,
    ];

    /// Returns whether requests still succeed, only later.
    #[must_use]
    pub const fn is_delay(self) -> bool {
        matches!(self, Self::Delay(_))
    }
}

/// Maximum time after a fault in which requests may fail.
const MAX_RECOVERY: Duration = Duration::from_secs(5);
/// Allowance for a busy machine.
const SLACK: Duration = Duration::from_secs(3);

type Action = Box<dyn FnOnce() + Send>;

struct Shared {
    fault: Mutex<Fault>,
    /// Messages of clients so far, and what to do before which of them is forwarded.
    messages: Mutex<(usize, Option<(usize, Action)>)>,
    connections: Mutex<Vec<(TcpStream, TcpStream, Arc<AtomicBool>)>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// A proxy in front of a server on this machine. It ends with the process.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultProxy {
    /// Starts a proxy to `host:port`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            messages: Mutex::default(),
            connections: Mutex::default(),
        });
        let (target, accepting) = (target.to_owned(), shared.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.accept(client, &target);
            }
        });
        Self { address, shared }
    }

    /// Starts a proxy to the server of a URL, and returns the URL that points to the proxy.
    ///
    /// # Panics
    /// If the URL has no authority, or no port is free.
    #[must_use]
    pub fn to_server_of(url: &str) -> (Self, String) {
        let (_, rest) = url.split_once("://").expect("a URL");
        let authority = rest.split('/').next().unwrap_or(rest);
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let proxy = Self::start(authority);
        let url = proxy.url(url, authority);
        (proxy, url)
    }

    /// Makes requests before, under and after each fault.
    ///
    /// # Panics
    /// If a request takes longer than `limit`, fails without a fault or when it is only delayed,
    /// succeeds under another fault, or still fails 5 s after a fault.
    pub async fn under_each<E: fmt::Debug>(
        &self,
        limit: Duration,
        mut request: impl AsyncFnMut() -> Result<(), E>,
    ) {
        for fault in Fault::ALL {
            if let Err(error) = request().await {
                panic!("before {fault:?}: {error:?}");
            }
            self.set(fault);
            for _ in 0..2 {
                let started = Instant::now();
                let result = request().await;
                let took = started.elapsed();
                println!("{fault:?}: {result:?} after {took:?}");
                assert_eq!(result.is_ok(), fault.is_delay(), "{fault:?}: {result:?}");
                assert!(took <= limit + SLACK, "{fault:?}: {took:?}");
            }
            self.set(Fault::None);
            let ended = Instant::now();
            while let Err(error) = request().await {
                let after = ended.elapsed();
                assert!(
                    after <= MAX_RECOVERY + SLACK,
                    "{after:?} after {fault:?}: {error:?}"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            println!("{fault:?}: recovered after {:?}", ended.elapsed());
        }
    }

    /// Returns the address of the proxy, as `host:port`.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Replaces the authority of a URL by the proxy's.
    ///
    /// # Panics
    /// If the URL does not contain `authority`.
    #[must_use]
    pub fn url(&self, url: &str, authority: &str) -> String {
        assert!(url.contains(authority), "{url} is not of {authority}");
        url.replace(authority, &self.authority())
    }

    /// Runs an action, such as killing the client, instead of forwarding the `nth` message from now on.
    ///
    /// Messages of clients are counted from 0. A message is everything a client sends at once: for a
    /// database, a statement or a commit.
    pub fn at_message(&self, nth: usize, action: impl FnOnce() + Send + 'static) {
        let mut messages = lock(&self.shared.messages);
        messages.1 = Some((messages.0 + nth, Box::new(action)));
    }

    /// Returns whether the action of [`at_message`](Self::at_message) has not run yet.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        lock(&self.shared.messages).1.is_some()
    }

    /// Cancels the action of [`at_message`](Self::at_message). Returns whether it was still to come.
    #[must_use]
    pub fn disarm(&self) -> bool {
        lock(&self.shared.messages).1.take().is_some()
    }

    /// Sets the fault, for existing and for new connections.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
        let mut connections = lock(&self.shared.connections);
        for (client, server, is_dead) in &*connections {
            match fault {
                Fault::None | Fault::Delay(_) => {}
                Fault::BlackHole => is_dead.store(true, Ordering::SeqCst),
                Fault::Cut => {
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.shutdown(Shutdown::Both);
                }
                Fault::HalfClose => {
                    let _ = client.shutdown(Shutdown::Write);
                }
            }
        }
        if fault == Fault::Cut {
            connections.clear();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream, target: &str) {
        if *lock(&self.fault) == Fault::Cut {
            return;
        }
        let is_dead = Arc::new(AtomicBool::new(false));
        let Ok(server) = TcpStream::connect(target) else {
            return;
        };
        let clones = (|| {
            Ok::<_, std::io::Error>([
                client.try_clone()?,
                client.try_clone()?,
                server.try_clone()?,
            ])
        })();
        let Ok([keep, client_reader, server_reader]) = clones else {
            return;
        };
        let Ok(server_keep) = server.try_clone() else {
            return;
        };
        {
            // `set` stores a fault before it locks these.
            let mut connections = lock(&self.connections);
            match *lock(&self.fault) {
                Fault::Cut => return,
                Fault::BlackHole => is_dead.store(true, Ordering::SeqCst),
                _ => {}
            }
            connections.push((keep, server_keep, is_dead.clone()));
        }
        let (there, back) = (self.clone(), self.clone());
        let is_dead_there = is_dead.clone();
        thread::spawn(move || there.carry(client_reader, server, &is_dead_there, false));
        thread::spawn(move || back.carry(server_reader, client, &is_dead, true));
    }

    /// Counts a client's message and runs the action that is due.
    fn is_last(&self) -> bool {
        let mut messages = lock(&self.messages);
        let nth = messages.0;
        messages.0 += 1;
        let Some((_, action)) = messages.1.take_if(|(at, _)| *at <= nth) else {
            return false;
        };
        // Under the lock: once it is disarmed, it is done or never will be.
        action();
        true
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_dead: &AtomicBool, is_back: bool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !is_back && self.is_last() {
                break;
            }
            if is_dead.load(Ordering::SeqCst) {
                // The bytes are gone, and so are all that follow.
                continue;
            }
            let fault = *lock(&self.fault);
            match fault {
                Fault::Delay(delay) => thread::sleep(delay),
                Fault::HalfClose if is_back => {
                    let _ = to.shutdown(Shutdown::Write);
                    continue;
                }
                _ => {}
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        if !is_dead.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Write);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
