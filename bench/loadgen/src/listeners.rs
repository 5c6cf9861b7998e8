//! Many who listen to what happens to uploads, while a few uploads are made.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::grants::Grants;
use crate::http::{Connection, Fault};
use crate::json;
use crate::report::{self, Figures};
use crate::target::Target;

/// Stack of a listener's thread.
const STACK: usize = 64 << 10;
/// From one upload to the next.
const PACE: Duration = Duration::from_millis(200);
/// Without an arrival for so long, what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes of each upload.
const LENGTH: u64 = 4 << 10;
/// An event that doesn't end within so many bytes is none.
const EVENT: usize = 64 << 10;

/// What all listeners share.
#[derive(Debug, Default)]
struct Heard {
    told: Mutex<Told>,
    changed: Condvar,
}

/// What was heard, by all together.
#[derive(Debug, Default)]
struct Told {
    /// Moment when the only request of each upload was sent, by the id of its grant.
    sent: Vec<(String, Instant)>,
    /// Listeners that have heard of any completion: those that are there.
    present: usize,
    /// From there to the arrival of its completion, at each listener.
    latencies: Vec<Duration>,
    fault: Option<Fault>,
}

impl Heard {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough`.
    fn wait(&self, silence: Duration, enough: impl Fn(&Told) -> bool) -> Result<(), Fault> {
        let mut told = self.told();
        loop {
            if let Some(fault) = &told.fault {
                return Err(fault.clone());
            }
            if enough(&told) {
                return Ok(());
            }
            let (present, arrived) = (told.present, told.latencies.len());
            told = self
                .changed
                .wait_timeout_while(told, silence, |told| {
                    let still = (told.present, told.latencies.len()) == (present, arrived);
                    still && told.fault.is_none()
                })
                .map_err(|_| "a listener panicked")?
                .0;
            if (told.present, told.latencies.len()) == (present, arrived) && told.fault.is_none() {
                return Err(format!(
                    "{present} listeners heard {arrived} completions, and then no more"
                ));
            }
        }
    }
}

/// One listener: what it has of an event, and what it heard already.
#[derive(Debug, Default)]
struct Listener {
    pending: Vec<u8>,
    last: u64,
    present: bool,
    /// Which of the measured uploads it heard of.
    heard: Vec<bool>,
}

impl Listener {
    /// Takes what came, in pieces of any size.
    fn take(&mut self, piece: &[u8], shared: &Heard) -> Result<(), Fault> {
        let now = Instant::now();
        self.pending.extend_from_slice(piece);
        while let Some(end) = crate::http::find(&self.pending, b"\n\n") {
            let event: Vec<u8> = self.pending.drain(..end + 2).collect();
            let event = std::str::from_utf8(&event).map_err(|_| "an event is not UTF-8")?;
            self.note(event, now, shared)?;
        }
        if self.pending.len() > EVENT {
            return Err("an event without an end".into());
        }
        Ok(())
    }

    fn note(&mut self, event: &str, now: Instant, shared: &Heard) -> Result<(), Fault> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        // `retry:`, and comments that keep the connection open.
        let (Some(kind), Some(data)) = (field("event:"), field("data:")) else {
            return Ok(());
        };
        let id = field("id:").and_then(|id| id.trim().parse().ok());
        let id: u64 = id.ok_or_else(|| format!("an event without a number: {event}"))?;
        if id <= self.last {
            return Err(format!("event {id} came after {}", self.last));
        }
        self.last = id;
        if kind.trim() != "UploadCompleted" {
            return Ok(());
        }
        let request =
            json::text(data, "request_id").ok_or_else(|| format!("whose is it? {event}"))?;
        let mut told = shared.told();
        if !self.present {
            self.present = true;
            told.present += 1;
        }
        // Uploads that were made to see who listens are not among them.
        if let Some(which) = told.sent.iter().position(|(id, _)| id == request) {
            self.heard
                .resize(told.sent.len().max(self.heard.len()), false);
            if std::mem::replace(&mut self.heard[which], true) {
                return Err(format!("the completion of {request} came twice"));
            }
            let latency = now.saturating_duration_since(told.sent[which].1);
            told.latencies.push(latency);
        }
        shared.changed.notify_all();
        Ok(())
    }
}

/// `count` uploads of 4 KiB, one after the other, while `listeners` listen to the events of their
/// caller. An operation is the arrival of a completion at one listener, timed from the moment when
/// the only request of its upload was sent.
pub(crate) fn measure(
    target: &Target,
    grants: Grants,
    listeners: usize,
    count: usize,
) -> Result<(), Fault> {
    let mut connection = Connection::open(target.address)?;
    // Before anybody listens: what the server keeps from now on is theirs.
    upload(target, &grants, &mut connection, |_| ())?;
    report::pause("alone")?;
    let heard = Arc::new(Heard::default());
    let grants = Arc::new(grants);
    for _ in 0..listeners {
        let (heard, grants) = (Arc::clone(&heard), Arc::clone(&grants));
        let address = target.address;
        // Not joined: it reads until the process ends.
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            let fault = listen(address, &grants, &heard).err();
            let fault = fault.unwrap_or_else(|| "the server ended the events".into());
            heard
                .told()
                .fault
                .get_or_insert(format!("a listener: {fault}"));
            heard.changed.notify_all();
        });
        thread.map_err(|error| format!("a thread for a listener: {error}"))?;
    }
    // Who heard of an upload is there for the next one.
    let (mut present, mut grown) = (0, Instant::now());
    while present < listeners {
        upload(target, &grants, &mut connection, |_| ())?;
        thread::sleep(PACE);
        let told = heard.told();
        if let Some(fault) = &told.fault {
            return Err(fault.clone());
        }
        if told.present > present {
            (present, grown) = (told.present, Instant::now());
        } else if grown.elapsed() > SILENCE {
            return Err(format!(
                "only {present} of {listeners} listeners hear anything"
            ));
        }
    }
    report::pause(&format!("ready {listeners}"))?;

    let (began, cpu) = (Instant::now(), report::own_cpu());
    for turn in 0..count {
        let due = began + PACE * u32::try_from(turn).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        upload(target, &grants, &mut connection, |id| {
            heard.told().sent.push((id.into(), Instant::now()));
        })?;
    }
    heard.wait(SILENCE, |told| told.latencies.len() == listeners * count)?;
    let mut figures = Figures {
        wall: began.elapsed(),
        bytes: LENGTH * count as u64,
        latencies: std::mem::take(&mut heard.told().latencies),
        client_cpu: report::own_cpu().saturating_sub(cpu),
        one_request_each: true,
    };
    report::pause(&format!("done {}", figures.json()))?;
    // Nobody heard of one twice, also not meanwhile.
    match &heard.told().fault {
        Some(fault) => Err(fault.clone()),
        None => report::say("verified"),
    }
}

/// Makes an upload under a grant of its own, in one request; `before` is called right before that.
fn upload(
    target: &Target,
    grants: &Grants,
    connection: &mut Connection,
    before: impl FnOnce(&str),
) -> Result<(), Fault> {
    let grant = grants.ask(connection, LENGTH)?;
    before(&grant.id);
    target.create_with(connection, Some(&grant.token), 0, LENGTH, LENGTH)?;
    Ok(())
}

/// Listens until something goes wrong.
fn listen(address: SocketAddr, grants: &Grants, heard: &Heard) -> Result<(), Fault> {
    let mut connection = Connection::open(address)?;
    let head = grants.head("GET", "/events");
    connection.begin(format!("{head}Accept: text/event-stream\r\n\r\n").as_bytes())?;
    let reply = connection.endless()?;
    reply.expect("GET of the events", &[200])?;
    let mut listener = Listener::default();
    connection.chunks(&mut |piece| listener.take(piece, heard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(ids: &[&str]) -> Heard {
        let heard = Heard::default();
        let now = Instant::now();
        heard.told().sent = ids.iter().map(|id| ((*id).into(), now)).collect();
        heard
    }

    fn completed(number: u64, request: &str) -> String {
        format!(
            "id: {number}\nevent: UploadCompleted\ndata: {{\"type\":\"UploadCompleted\",\"upload\":{{\"request_id\":\"{request}\"}}}}\n\n"
        )
    }

    #[test]
    fn takes_events_in_pieces() {
        let (heard, mut listener) = (shared(&["a", "b"]), Listener::default());
        let other = completed(2, "a").replace("UploadCompleted", "UploadStarted");
        let text = format!(
            "retry: 2000\n\n{}{other}: still there\n\n{}",
            completed(1, "warm"),
            completed(3, "b")
        );
        for piece in text.as_bytes().chunks(7) {
            listener.take(piece, &heard).unwrap();
        }
        let told = heard.told();
        assert_eq!((told.present, told.latencies.len()), (1, 1));
        assert_eq!(listener.heard, [false, true]);
    }

    #[test]
    fn what_must_not_be_is_told() {
        for (second, reason) in [
            (completed(5, "a"), "event 5 came after 5"),
            (completed(6, "a"), "the completion of a came twice"),
            (completed(6, "b").replace("id: 6\n", ""), "without a number"),
            (completed(6, "b").replace("request_id", "x"), "whose is it?"),
        ] {
            let (heard, mut listener) = (shared(&["a", "b"]), Listener::default());
            listener.take(completed(5, "a").as_bytes(), &heard).unwrap();
            let fault = listener.take(second.as_bytes(), &heard).unwrap_err();
            assert!(fault.contains(reason), "{fault}");
        }
    }

    #[test]
    fn silence_ends_the_wait() {
        let heard = shared(&["a"]);
        let short = Duration::from_millis(20);
        let fault = heard.wait(short, |told| told.present == 1).unwrap_err();
        assert_eq!(fault, "0 listeners heard 0 completions, and then no more");
        let mut listener = Listener::default();
        listener.take(completed(1, "a").as_bytes(), &heard).unwrap();
        heard.wait(short, |told| told.present == 1).unwrap();
        heard.told().fault = Some("gone".into());
        assert_eq!(heard.wait(short, |_| true).unwrap_err(), "gone");
    }
}
