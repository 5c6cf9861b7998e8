//! Several connections that begin their timed work in one moment.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Connection, Fault};
use crate::report::{self, Figures};

/// What the connections are opened to.
pub(crate) trait Server: Sync {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// How many uploads were created, or grants given, so far.
    fn made(&self) -> u64;

    /// Whether an operation is one request.
    fn one_request_each(&self) -> bool {
        true
    }
}

/// Stack of a connection's thread.
const STACK: usize = 512 << 10;

/// One connection, what it needs for its work, and what it measured.
#[derive(Debug)]
pub(crate) struct Member<S> {
    /// Which one of the fleet, from 0.
    pub(crate) index: usize,
    /// The open connection.
    pub(crate) connection: Connection,
    /// What was prepared for it, and what it leaves for the check.
    pub(crate) state: S,
    /// Time of each operation.
    pub(crate) latencies: Vec<Duration>,
    /// Bytes of upload bodies sent.
    pub(crate) bytes: u64,
}

impl<S> Member<S> {
    /// Runs one operation and notes its time and the bytes it sent.
    pub(crate) fn time<T>(
        &mut self,
        bytes: u64,
        operation: impl FnOnce(&mut Connection, &mut S) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let start = Instant::now();
        let done = operation(&mut self.connection, &mut self.state)?;
        self.latencies.push(start.elapsed());
        self.bytes += bytes;
        Ok(done)
    }
}

/// Prepares `connections` members, waits for the driver, lets all do `work` at once, tells the
/// driver the figures, and then has each `check` what the server stored.
///
/// # Errors
/// The first fault of any member.
pub(crate) fn run<S: Send>(
    server: &impl Server,
    connections: usize,
    prepare: impl Fn(usize, &mut Connection) -> Result<S, Fault> + Sync,
    work: impl Fn(&mut Member<S>) -> Result<(), Fault> + Sync,
    check: impl Fn(&mut Member<S>) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    // Preparing is parallel too: it may be thousands of uploads.
    let mut members = parallel((0..connections).collect(), |index| {
        let mut connection = Connection::open(server.address())?;
        let state = prepare(index, &mut connection)?;
        Ok(Member {
            index,
            connection,
            state,
            latencies: Vec::new(),
            bytes: 0,
        })
    })?;

    // The first to be prepared may have waited long for the last.
    for member in &mut members {
        member.connection.renew()?;
    }

    // The coordinator is one more at each barrier. `finished` holds the threads back until the
    // processor time is read, because the kernel forgets that of ended threads.
    let (start, finished, leave) = (
        Barrier::new(connections + 1),
        Barrier::new(connections + 1),
        Barrier::new(connections + 1),
    );
    let mut figures = Figures {
        one_request_each: server.one_request_each(),
        ..Figures::default()
    };
    let outcome = thread::scope(|scope| {
        let mut threads = Vec::new();
        for member in &mut members {
            let (start, finished, leave, work) = (&start, &finished, &leave, &work);
            let builder = thread::Builder::new().stack_size(STACK);
            let thread = builder.spawn_scoped(scope, move || {
                start.wait();
                let done = work(member);
                finished.wait();
                leave.wait();
                done
            });
            threads.push(thread.expect("threads for the connections"));
        }
        let ready = report::pause(&format!("ready {}", server.made()));
        let (began, cpu) = (Instant::now(), report::own_cpu());
        start.wait();
        finished.wait();
        figures.wall = began.elapsed();
        figures.client_cpu = report::own_cpu().saturating_sub(cpu);
        leave.wait();
        let done = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        done.fold(ready, Result::and)
    });
    outcome?;

    for member in &mut members {
        figures.latencies.append(&mut member.latencies);
        figures.bytes += member.bytes;
    }
    report::pause(&format!("done {}", figures.json()))?;
    for member in &mut members {
        member.connection.renew()?;
        check(member).map_err(|fault| format!("check: {fault}"))?;
    }
    report::say("verified")
}

/// Does `work` for each item on its own thread; the results keep the order.
///
/// # Errors
/// The first fault.
fn parallel<I: Send, T: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> Result<T, Fault> + Sync,
) -> Result<Vec<T>, Fault> {
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(|| work(item)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    })
}
