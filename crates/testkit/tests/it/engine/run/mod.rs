//! Plays operations on a handler and on the model, and compares.

mod check;
mod fate;
mod files;
mod interrupt;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::poll_fn,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use landfall::{
    Composer, Config, Handler, LocationStyle,
    event::EventKind,
    lease::Fence,
    store::Store,
    upload::{Upload, UploadId},
};
use landfall_testkit::{fault::Faults, record::RecordingSink, test_data};
use proptest::{prelude::*, test_runner::TestCaseResult};
use tokio::time::{sleep, timeout};

use crate::model::{Model, ModelUpload, Refusal, Role};

use super::{
    client::{self, Hanging, Sent, TestResponse},
    gate::WriteGate,
    hook::Refusing,
    op::{At, BodyOp, Declare, Op, Size, Sum},
};

/// Failures other than those of clients.
#[derive(Debug)]
pub(super) enum Mode {
    /// Nothing: every answer must be the model's.
    Exact,
    /// Random store failures: acknowledged bytes must exist and be correct.
    Faults(Faults, u64),
    /// The store forgets what wasn't committed whenever the server starts again.
    Crashes,
}

/// An upload that the clients know of.
#[derive(Debug, Clone)]
struct KnownUpload {
    name: u32,
    id: UploadId,
    /// Its bytes, and more: client and server must agree on a prefix.
    source: Bytes,
    /// The length it is to have, if it wasn't told at creation.
    late_length: u64,
}

pub(super) struct ModelRun {
    mode: Mode,
    open: Box<dyn FnMut() -> Arc<dyn Store>>,
    store: Arc<dyn Store>,
    handler: Handler,
    sink: RecordingSink,
    model: Model,
    known: Vec<KnownUpload>,
    completed: BTreeSet<u32>,
    expired: BTreeSet<u32>,
    /// Uploads with bytes that are not acknowledged, which a crash may remove, or which may arrive at a distant store
    /// later: the offsets that they may have.
    loose: BTreeMap<u32, RangeInclusive<u64>>,
    seeds: u64,
    /// How often the server was started again.
    starts: usize,
    /// Refuses uploads when they are complete, in some runs.
    hook: Option<Refusing>,
    /// Blocks and kills the store, if it is one that can be.
    gate: Option<WriteGate>,
    /// The directory of the store, if it has one.
    files: Option<files::Files>,
    /// Uploads whose descriptions the application took away.
    adopted: BTreeSet<u32>,
}

fn handler(store: Arc<dyn Store>, sink: &RecordingSink, hook: Option<&Refusing>) -> Handler {
    let mut config = Config::new(Composer::join_shared(store)).sink(sink.clone());
    if let Some(hook) = hook {
        config = config.hook(hook.clone());
    }
    // Each write is a progress that can be stopped.
    config.progress_interval = Duration::ZERO;
    config.location = LocationStyle::Relative;
    config.lease_wait = Duration::from_secs(5);
    Handler::new(config).unwrap()
}

/// Bytes that no two uploads share in the same place.
fn source(seed: u64) -> Bytes {
    const LEN: usize = 1 << 20;
    static POOL: OnceLock<Bytes> = OnceLock::new();
    let pool = POOL.get_or_init(|| test_data::bytes(1, 2 * LEN));
    let start = (seed.wrapping_mul(7919) % LEN as u64) as usize;
    pool.slice(start..start + LEN)
}

fn status_of(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::Missing => 404,
        Refusal::Gone => 410,
        Refusal::Final => 403,
        Refusal::Offset => 409,
        Refusal::Size => 413,
        Refusal::Checksum => 460,
        Refusal::NotPartial
        | Refusal::Repeated
        | Refusal::Length
        | Refusal::Cut
        | Refusal::LateChecksum => 400,
    }
}

/// Returns whether the server failed. A request whose upload was taken over gets 423, too.
fn is_failure(reply: &TestResponse) -> bool {
    let is_taken_over = reply.bytes.starts_with(b"ERR_UPLOAD_INTERRUPTED");
    reply.status >= 500 || reply.status == 423 && !is_taken_over
}

impl ModelRun {
    pub(super) fn new(mode: Mode, mut open: impl FnMut() -> Arc<dyn Store> + 'static) -> Self {
        let store = open();
        let sink = RecordingSink::default();
        Self {
            mode,
            handler: handler(store.clone(), &sink, None),
            hook: None,
            gate: None,
            files: None,
            adopted: BTreeSet::new(),
            store,
            open: Box::new(open),
            sink,
            model: Model::default(),
            known: Vec::new(),
            completed: BTreeSet::new(),
            expired: BTreeSet::new(),
            loose: BTreeMap::new(),
            seeds: 0,
            starts: 0,
        }
    }

    /// Opens the store as a new process does.
    fn start_again(&mut self) {
        self.store = (self.open)();
        self.handler = handler(self.store.clone(), &self.sink, self.hook.as_ref());
        self.starts += 1;
    }

    /// Like `open`, on a store whose writes wait at `gate`, with a hook that may deny completions; before
    /// that decision, no upload can be read.
    pub(super) fn gated(mut self, gate: &WriteGate) -> Self {
        self.gate = Some(gate.clone());
        self.hook = Some(Refusing::default());
        self.handler = handler(self.store.clone(), &self.sink, self.hook.as_ref());
        self
    }

    /// The same on a store of files in `dir`.
    pub(super) fn in_dir(mut self, dir: &Path) -> Self {
        self.files = Some(files::Files::new(dir));
        self
    }

    pub(super) async fn play(mut self, ops: &[Op]) -> TestCaseResult {
        let announce = !self.reads_unfinished();
        for (n, op) in ops.iter().enumerate() {
            let mut op = op.clone();
            if announce {
                // A checksum in an undeclared trailer is verified by reading the bytes back.
                op.declare_trailer();
            }
            let op = &op;
            if let Mode::Faults(faults, seed) = &self.mode {
                faults.by_chance(seed.wrapping_add(n as u64).wrapping_mul(0x9e37_79b9), 60);
            }
            let played = match timeout(Duration::from_secs(30), self.step(op)).await {
                Ok(played) => played,
                Err(_) => Err(TestCaseError::fail("it hangs")),
            };
            let checked = match played {
                Ok(()) => self.check_pending().await,
                failed => failed,
            };
            checked.map_err(|error| TestCaseError::fail(format!("step {n}, {op:?}: {error}")))?;
        }
        self.calm();
        for known in self.known.clone() {
            if self.loose.remove(&known.name).is_some() {
                self.check_range(&known, 0, u64::MAX).await?;
            }
            self.check_upload(&known).await?;
        }
        if !self.reads_unfinished() {
            for known in self.known.clone() {
                self.fill_up(&known).await?;
            }
        }
        self.check_events().await
    }

    async fn step(&mut self, op: &Op) -> TestCaseResult {
        match op {
            Op::Create {
                length,
                partial,
                body,
            } => self.create(*length, *partial, body.as_ref()).await,
            Op::Append {
                target,
                at,
                declare,
                body,
                refused,
            } => match self.pick(*target).await? {
                Some(known) => self.append(&known, *at, *declare, body, *refused).await,
                None => Ok(()),
            },
            Op::Block {
                target,
                sent,
                followers,
            } => match self.pick_growing(*target).await? {
                Some((known, room)) => self.block(&known, room, *sent, followers).await,
                None => Ok(()),
            },
            Op::Kill {
                targets,
                sent,
                lands,
            } => self.kill(targets, *sent, *lands).await,
            Op::Stop { target, sent } => match self.pick_growing(*target).await? {
                Some((known, room)) if room > 1 => {
                    self.stop(&known, share(room - 1, *sent).max(1)).await
                }
                _ => Ok(()),
            },
            Op::Adopt { target } => match self.pick(*target).await? {
                Some(known) => self.adopt(&known).await,
                None => Ok(()),
            },
            Op::Litter(litter) => {
                if let Some(files) = &mut self.files {
                    files.litter(*litter);
                }
                Ok(())
            }
            Op::Sweep => self.sweep().await,
            Op::TakeOver {
                target,
                first,
                verified,
                body,
            } => match self.pick_growing(*target).await? {
                Some((known, room)) => {
                    self.take_over(&known, share(room - 1, *first), *verified, body)
                        .await
                }
                None => Ok(()),
            },
            Op::Vanish { target, sent } => match self.pick_growing(*target).await? {
                Some((known, room)) => self.vanish(&known, share(room - 1, *sent)).await,
                None => Ok(()),
            },
            Op::Race { target, body } => match self.pick_growing(*target).await? {
                Some((known, _)) => self.race(&known, body).await,
                None => Ok(()),
            },
            Op::Concatenate { parts } => self.concatenate(parts).await,
            Op::Terminate { target } => match self.pick(*target).await? {
                Some(known) => self.terminate(&known).await,
                None => Ok(()),
            },
            Op::Expire { target } => match self.pick(*target).await? {
                Some(known) => self.expire(&known).await,
                None => Ok(()),
            },
            Op::Download { target, from, to } => match self.pick(*target).await? {
                Some(known) => self.download(&known, *from, *to).await,
                None => Ok(()),
            },
            Op::Restart { target, sent } => self.restart(*target, *sent).await,
        }
    }

    /// Any upload there ever was.
    async fn pick(&mut self, target: usize) -> Result<Option<KnownUpload>, TestCaseError> {
        if self.known.is_empty() {
            return Ok(None);
        }
        let known = self.known[target % self.known.len()].clone();
        if let Some(offsets) = self.loose.remove(&known.name) {
            let (acknowledged, most) = offsets.into_inner();
            prop_assert!(acknowledged <= most);
            // No crash came: all that arrived is there, unless the request was dropped while it
            // waited for a distant store.
            let least = if self.reads_unfinished() {
                most
            } else {
                acknowledged
            };
            self.check_range(&known, least, most).await?;
        }
        Ok(Some(known))
    }

    /// One that takes bytes, and how many.
    async fn pick_growing(
        &mut self,
        target: usize,
    ) -> Result<Option<(KnownUpload, u64)>, TestCaseError> {
        let Some(known) = self.pick(target).await? else {
            return Ok(None);
        };
        let Some(upload) = self.model.get(known.name) else {
            return Ok(None);
        };
        let room = remaining(upload, &known);
        let grows = !matches!(upload.role, Role::Final { .. }) && room > 0;
        Ok(grows.then_some((known, room)))
    }

    fn offset(&self, known: &KnownUpload) -> u64 {
        self.model
            .get(known.name)
            .map_or(0, |upload| upload.bytes.len() as u64)
    }

    /// From now on, the upload may have any offset from `acknowledged` to that of the model.
    fn loosen(&mut self, known: &KnownUpload, acknowledged: u64) {
        let offsets = acknowledged..=self.offset(known);
        self.loose.insert(known.name, offsets);
    }

    fn calm(&self) {
        if let Mode::Faults(faults, _) = &self.mode {
            faults.stop();
        }
    }

    fn remember(&mut self, name: u32, id: UploadId, seed: u64) -> KnownUpload {
        let late_length = 1000 + seed * 7013 % 300_000;
        let known = KnownUpload {
            name,
            id,
            source: source(seed),
            late_length,
        };
        self.known.push(known.clone());
        known
    }

    fn reads_unfinished(&self) -> bool {
        let reader = self.store.capabilities().reader;
        reader.is_some_and(|reader| reader.reads_unfinished())
    }

    /// Returns whether the server failed, which it may only if its store does.
    fn has_failed(&self, reply: &TestResponse) -> Result<bool, TestCaseError> {
        if is_failure(reply) {
            let may_fail = matches!(self.mode, Mode::Faults(..));
            let text = String::from_utf8_lossy(&reply.bytes);
            prop_assert!(may_fail, "the server failed: {} {}", reply.status, text);
        }
        Ok(is_failure(reply))
    }
}

impl fmt::Display for KnownUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload {}", self.name)
    }
}

/// Returns this many of 255 parts.
fn share(of: u64, parts: u8) -> u64 {
    of * u64::from(parts) / 255
}

/// Returns how many more bytes an upload accepts; its planned length if that is not declared yet.
fn remaining(upload: &ModelUpload, known: &KnownUpload) -> u64 {
    upload
        .length
        .unwrap_or(known.late_length)
        .saturating_sub(upload.bytes.len() as u64)
}

/// A body for an upload that has `start` bytes and is to have `end`.
fn sent(source: &Bytes, start: u64, end: u64, body: &BodyOp) -> Sent {
    // A final upload may be longer than any source; it takes no bytes anyway.
    let (start, rest) = (start.min(500_000), end.saturating_sub(start).min(500_000));
    let size = match body.size {
        Size::Rest => rest,
        Size::Part(parts) => share(rest, parts),
        Size::Beyond(by) => rest + by,
    };
    let whole = source.slice(start as usize..(start + size) as usize);
    // A body of no bytes, as stated, is there before it can be cut.
    let cut = body.cut.filter(|_| size > 0 || !body.stated);
    Sent {
        arrives: cut.map_or(size, |parts| share(size, parts)) as usize,
        cut: cut.is_some(),
        stated: body.stated,
        checksum: body.checksum,
        frame: body.frame,
        pauses: body.pauses,
        whole,
    }
}
