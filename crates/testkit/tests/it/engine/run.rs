//! Plays operations on a handler and on the model, and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::poll_fn,
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
use landfall_testkit::{
    fault::Faults,
    model::{Model, Modelled, Refusal, Role},
    pattern,
    record::RecordingSink,
};
use proptest::{prelude::*, test_runner::TestCaseResult};
use tokio::time::{sleep, timeout};

use super::{
    client::{self, Hanging, Reply, Sent},
    op::{At, BodyOp, Declare, Op, Size, Sum},
};

/// What goes wrong besides what clients do.
#[derive(Debug)]
pub(super) enum Mode {
    /// Nothing: every answer must be the model's.
    Exact,
    /// Calls of the store fail by chance: what was acknowledged must be there, and right.
    Faults(Faults, u64),
    /// The store forgets what wasn't committed whenever the server starts again.
    Crashes,
}

/// An upload that the clients know of.
#[derive(Debug, Clone)]
struct Known {
    name: u32,
    id: UploadId,
    /// Its bytes, and more: client and server must agree on the first so many.
    source: Bytes,
    /// The length it is to have, if it wasn't told at creation.
    late_length: u64,
}

pub(super) struct Run {
    mode: Mode,
    open: Box<dyn FnMut() -> Arc<dyn Store>>,
    store: Arc<dyn Store>,
    handler: Handler,
    sink: RecordingSink,
    model: Model,
    known: Vec<Known>,
    completed: BTreeSet<u32>,
    expired: BTreeSet<u32>,
    /// Uploads of which a crash may take what was not acknowledged, with what was.
    loose: BTreeMap<u32, u64>,
    seeds: u64,
}

fn handler(store: Arc<dyn Store>, sink: &RecordingSink) -> Handler {
    let mut config = Config::new(Composer::join_shared(store)).sink(sink.clone());
    config.location = LocationStyle::Relative;
    config.lease_wait = Duration::from_secs(5);
    Handler::new(config)
}

/// Bytes that no two uploads share in the same place.
fn source(seed: u64) -> Bytes {
    const LEN: usize = 1 << 20;
    static POOL: OnceLock<Bytes> = OnceLock::new();
    let pool = POOL.get_or_init(|| pattern::bytes(1, 2 * LEN));
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
        Refusal::NotPartial | Refusal::Length | Refusal::Cut | Refusal::LateChecksum => 400,
    }
}

/// Whether the server says that it failed, not the client.
fn is_failure(reply: &Reply) -> bool {
    reply.status >= 500 || reply.status == 423
}

impl Run {
    pub(super) fn new(mode: Mode, mut open: impl FnMut() -> Arc<dyn Store> + 'static) -> Self {
        let store = open();
        let sink = RecordingSink::default();
        Self {
            mode,
            handler: handler(store.clone(), &sink),
            store,
            open: Box::new(open),
            sink,
            model: Model::default(),
            known: Vec::new(),
            completed: BTreeSet::new(),
            expired: BTreeSet::new(),
            loose: BTreeMap::new(),
            seeds: 0,
        }
    }

    pub(super) async fn play(mut self, ops: &[Op]) -> TestCaseResult {
        let announce = !self.reads_unfinished();
        for (n, op) in ops.iter().enumerate() {
            let mut op = op.clone();
            if announce {
                // A checksum that nobody announced is verified by reading the bytes back.
                op.announce();
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
                Ok(()) => self.look_at_pending().await,
                failed => failed,
            };
            checked.map_err(|error| TestCaseError::fail(format!("step {n}, {op:?}: {error}")))?;
        }
        self.calm();
        for known in self.known.clone() {
            if self.loose.remove(&known.name).is_some() {
                self.settle(&known, 0, u64::MAX).await?;
            }
            self.look(&known).await?;
        }
        if !self.reads_unfinished() {
            for known in self.known.clone() {
                self.fill_up(&known).await?;
            }
        }
        self.check_events()
    }

    fn reads_unfinished(&self) -> bool {
        let reader = self.store.reader();
        reader.is_some_and(|reader| reader.reads_unfinished())
    }

    /// What is kept of an upload can only be read if it is completed: here, past the handler.
    async fn fill_up(&self, known: &Known) -> TestCaseResult {
        let Some(upload) = self.model.get(known.name) else {
            return Ok(());
        };
        if upload.is_complete() || matches!(upload.role, Role::Final { .. }) {
            return Ok(());
        }
        let length = upload
            .length
            .unwrap_or(known.late_length.max(upload.bytes.len() as u64));
        let newest = Fence(u64::MAX);
        let loaded = self.store.load(&known.id).await.expect("load");
        let mut described = loaded.upload;
        if described.length.is_none() {
            let deferrer = self.store.length_deferrer().expect("a length deferrer");
            let declared = deferrer.declare_length(&described, length, newest).await;
            described = declared.expect("declare_length");
        }
        let mut append = self.store.append(&described, newest).await.expect("append");
        let start = append.offset() as usize;
        prop_assert_eq!(start, upload.bytes.len());
        let rest = known.source.slice(start..length as usize);
        append.write(&mut vec![rest]).await.expect("write");
        prop_assert_eq!(append.commit().await.expect("commit"), length);
        drop(append);
        let stored = self.read(known).await;
        prop_assert!(
            stored.is_some_and(|stored| stored == known.source[..length as usize]),
            "the bytes of {} are not the right ones once they are all there",
            known
        );
        Ok(())
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
            } => match self.pick(*target).await? {
                Some(known) => self.append(&known, *at, *declare, body).await,
                None => Ok(()),
            },
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
    async fn pick(&mut self, target: usize) -> Result<Option<Known>, TestCaseError> {
        if self.known.is_empty() {
            return Ok(None);
        }
        let known = self.known[target % self.known.len()].clone();
        if let Some(acknowledged) = self.loose.remove(&known.name) {
            let offset = self.offset(&known);
            prop_assert!(acknowledged <= offset);
            // No crash came: all that arrived is there, unless the request was dropped while it
            // waited for a distant store.
            let least = if self.reads_unfinished() {
                offset
            } else {
                acknowledged
            };
            self.settle(&known, least, offset).await?;
        }
        Ok(Some(known))
    }

    /// One that takes bytes, and how many.
    async fn pick_growing(&mut self, target: usize) -> Result<Option<(Known, u64)>, TestCaseError> {
        let Some(known) = self.pick(target).await? else {
            return Ok(None);
        };
        let Some(upload) = self.model.get(known.name) else {
            return Ok(None);
        };
        let room = room(upload, &known);
        let grows = !matches!(upload.role, Role::Final { .. }) && room > 0;
        Ok(grows.then_some((known, room)))
    }

    fn offset(&self, known: &Known) -> u64 {
        self.model
            .get(known.name)
            .map_or(0, |upload| upload.bytes.len() as u64)
    }

    fn calm(&self) {
        if let Mode::Faults(faults, _) = &self.mode {
            faults.stop();
        }
    }

    fn remember(&mut self, name: u32, id: UploadId, seed: u64) -> Known {
        let late_length = 1000 + seed * 7013 % 300_000;
        let known = Known {
            name,
            id,
            source: source(seed),
            late_length,
        };
        self.known.push(known.clone());
        known
    }

    async fn create(
        &mut self,
        length: Option<u64>,
        partial: bool,
        body: Option<&BodyOp>,
    ) -> TestCaseResult {
        self.seeds += 1;
        let seed = self.seeds;
        let sent = body.map(|body| sent(&source(seed), 0, length.unwrap_or(5000), body));
        let before = self.sink.events().len();
        let concat = partial.then_some("partial");
        let reply = client::create(&self.handler, length, concat, sent.as_ref()).await;
        if self.has_failed(&reply)? {
            return Ok(()); // If anything is left of it, no client knows.
        }
        let role = if partial { Role::Partial } else { Role::Whole };
        let made = self
            .model
            .create(length, role, sent.as_ref().map(Sent::modelled));
        let (name, appended) = match made {
            Ok(made) => made,
            Err(refusal) => {
                prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal);
                return Ok(());
            }
        };
        let id = match appended {
            Ok(offset) => {
                prop_assert_eq!(reply.status, 201);
                if sent.is_some() {
                    prop_assert_eq!(reply.number("upload-offset"), Some(offset));
                }
                reply.id().expect("a location")
            }
            Err(refusal) => {
                // Nobody told the client where its upload is, but it is kept.
                prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal);
                prop_assert!(
                    self.sink.events().len() > before,
                    "it was cut, and is not kept"
                );
                self.sink.last_created().expect("an upload")
            }
        };
        let known = self.remember(name, id, seed);
        self.look_unless_loose(&known, appended.is_ok(), 0).await
    }

    async fn append(
        &mut self,
        known: &Known,
        at: At,
        declare: Declare,
        body: &BodyOp,
    ) -> TestCaseResult {
        let start = self.offset(known);
        let length = self.model.get(known.name).and_then(|upload| upload.length);
        let offset = match at {
            At::Right => start,
            At::Later(by) => start + by,
            At::Earlier(by) => start.saturating_sub(by),
        };
        let declared = match declare {
            Declare::Nothing => None,
            Declare::Right => Some(length.unwrap_or(known.late_length.max(start))),
            Declare::Wrong(length) => Some(length),
        };
        let end = length.or(declared).unwrap_or(known.late_length);
        let sent = sent(&known.source, start, end, body);
        let reply = client::append(&self.handler, &known.id, offset, declared, &sent).await;
        if self.has_failed(&reply)? {
            return self.settle(known, start, start + sent.arrives as u64).await;
        }
        match self
            .model
            .append(known.name, offset, declared, sent.modelled())
        {
            Ok(offset) => {
                prop_assert_eq!(reply.status, 204);
                prop_assert_eq!(reply.number("upload-offset"), Some(offset));
            }
            Err(refusal) => prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal),
        }
        self.look_unless_loose(known, reply.is_success(), start)
            .await
    }

    /// A PATCH that hangs after `len` bytes; on return the server has them, or has failed.
    async fn hang(&self, known: &Known, len: u64, verified: bool) -> Hanging {
        let start = self.offset(known);
        let end = start
            + self
                .model
                .get(known.name)
                .map_or(0, |upload| room(upload, known));
        let mut sent = Sent::plain(known.source.slice(start as usize..end as usize));
        (sent.arrives, sent.cut) = (len as usize, true);
        if verified {
            sent.checksum = Sum::Head { right: true };
        }
        let mut hanging = client::append_and_hang(&self.handler, &known.id, start, &sent);
        tokio::select! {
            () = hanging.reached.notified() => {}
            _ = &mut hanging.task => {
                // It failed: somebody else must stand for it.
                hanging.task = tokio::spawn(std::future::pending());
            }
        }
        hanging
    }

    /// Drops a request that hangs, and waits until what it was writing is written: the next append
    /// does.
    async fn end(&self, known: &Known, hanging: Hanging) {
        hanging.task.abort();
        drop(hanging.task.await);
        self.calm();
        let locker = self.store.locker().expect("a locker");
        let lease = locker
            .acquire(&known.id, Duration::from_secs(5))
            .await
            .expect("a lease");
        let upload = self.store.load(&known.id).await.expect("load").upload;
        drop(
            self.store
                .append(&upload, lease.fence())
                .await
                .expect("append"),
        );
    }

    /// What [`hang`](Self::hang) leaves, in the model.
    fn model_hang(&mut self, known: &Known, len: u64, verified: bool) {
        let start = self.offset(known);
        let bytes = known.source.slice(start as usize..(start + len) as usize);
        let checksum = verified.then_some(true);
        let body = landfall_testkit::model::Body {
            bytes: &bytes,
            stated: None,
            cut: true,
            checksum,
            late: false,
        };
        let hung = self.model.append(known.name, start, None, body);
        assert_eq!(hung, Err(Refusal::Cut));
    }

    async fn take_over(
        &mut self,
        known: &Known,
        len: u64,
        verified: bool,
        body: &BodyOp,
    ) -> TestCaseResult {
        let start = self.offset(known);
        let first = self.hang(known, len, verified).await;
        self.model_hang(known, len, verified);
        let offset = self.offset(known);
        let end = self
            .model
            .get(known.name)
            .map_or(0, |upload| offset + room(upload, known));
        let sent = sent(&known.source, offset, end, body);
        let reply = client::append(&self.handler, &known.id, offset, None, &sent).await;
        if let Mode::Faults(..) = self.mode {
            self.end(known, first).await;
            let least = reply.number("upload-offset").filter(|_| reply.is_success());
            let most = offset + sent.arrives as u64;
            return self
                .settle(known, least.unwrap_or(start), most.max(start + len))
                .await;
        }
        match self.model.append(known.name, offset, None, sent.modelled()) {
            Ok(offset) => {
                prop_assert_eq!(reply.status, 204, "the newcomer");
                prop_assert_eq!(reply.number("upload-offset"), Some(offset));
            }
            Err(refusal) => prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal),
        }
        let loser = timeout(Duration::from_secs(5), first.task).await;
        let loser = loser
            .expect("the loser lets go")
            .expect("the loser ends well");
        prop_assert!(
            (400..500).contains(&loser.status),
            "the loser got {}",
            loser.status
        );
        self.look_unless_loose(known, reply.is_success(), start)
            .await
    }

    async fn vanish(&mut self, known: &Known, len: u64) -> TestCaseResult {
        let start = self.offset(known);
        let hanging = self.hang(known, len, false).await;
        self.model_hang(known, len, false);
        match self.mode {
            Mode::Exact => {
                // Others see what has come, while it comes.
                self.await_offset(known, start + len).await?;
                hanging.task.abort();
                drop(hanging.task.await);
                self.look(known).await
            }
            Mode::Faults(..) => {
                sleep(Duration::from_millis(10)).await;
                self.end(known, hanging).await;
                self.settle(known, start, start + len).await
            }
            Mode::Crashes => {
                hanging.task.abort();
                drop(hanging.task.await);
                self.loose.insert(known.name, start);
                Ok(())
            }
        }
    }

    async fn await_offset(&self, known: &Known, wanted: u64) -> TestCaseResult {
        let mut seen = None;
        for _ in 0..200 {
            seen = client::inspect(&self.handler, &known.id)
                .await
                .number("upload-offset");
            if seen == Some(wanted) {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(TestCaseError::fail(format!(
            "the offset is {seen:?}, not {wanted}, while it grows"
        )))
    }

    async fn race(&mut self, known: &Known, body: &BodyOp) -> TestCaseResult {
        let start = self.offset(known);
        let end = self
            .model
            .get(known.name)
            .map_or(0, |upload| start + room(upload, known));
        let sent = sent(&known.source, start, end, body);
        let one = client::append(&self.handler, &known.id, start, None, &sent);
        let other = client::append(&self.handler, &known.id, start, None, &sent);
        let (one, other) = tokio::join!(one, other);
        let mut least = start;
        for reply in [one, other] {
            self.has_failed(&reply)?;
            if reply.is_success() {
                least = least.max(reply.number("upload-offset").expect("an offset"));
            }
        }
        self.settle(known, least, start + sent.arrives as u64).await
    }

    async fn concatenate(&mut self, parts: &[usize]) -> TestCaseResult {
        if self.known.is_empty() {
            return Ok(());
        }
        let mut picked = Vec::new();
        for part in parts {
            picked.extend(self.pick(*part).await?);
        }
        let paths: Vec<_> = picked
            .iter()
            .map(|part| format!("/files/{}", part.id))
            .collect();
        let concat = format!("final;{}", paths.join(" "));
        let reply = client::create(&self.handler, None, Some(&concat), None).await;
        if self.has_failed(&reply)? {
            return Ok(()); // If anything is left of it, no client knows.
        }
        if picked.is_empty() {
            prop_assert_eq!(reply.status, 400, "a final upload without parts");
            return Ok(());
        }
        match self
            .model
            .concatenate(picked.iter().map(|part| part.name).collect())
        {
            Ok(name) => {
                prop_assert_eq!(reply.status, 201);
                let known = self.remember(name, reply.id().expect("a location"), 0);
                self.look(&known).await
            }
            Err(refusal) => {
                prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal);
                Ok(())
            }
        }
    }

    async fn terminate(&mut self, known: &Known) -> TestCaseResult {
        let reply = client::terminate(&self.handler, &known.id).await;
        if self.has_failed(&reply)? {
            self.calm();
            // All or nothing: the next look tells which.
            if client::inspect(&self.handler, &known.id).await.status == 404 {
                let _ = self.model.remove(known.name);
            }
        } else {
            match self.model.remove(known.name) {
                Ok(()) => prop_assert_eq!(reply.status, 204),
                Err(refusal) => prop_assert_eq!(reply.status, status_of(refusal)),
            }
        }
        self.look(known).await
    }

    async fn expire(&mut self, known: &Known) -> TestCaseResult {
        if self.model.get(known.name).is_none_or(Modelled::is_complete) {
            return Ok(());
        }
        self.calm();
        let locker = self.store.locker().expect("a locker");
        let lease = locker
            .acquire(&known.id, Duration::from_secs(5))
            .await
            .expect("a lease");
        let snapshot = self.store.load(&known.id).await.expect("load");
        let mut upload = Upload::clone(&snapshot.upload);
        upload.expires = Some(UNIX_EPOCH + Duration::from_secs(1));
        self.store.save(&upload, lease.fence()).await.expect("save");
        drop(lease);
        let nothing = Sent::plain(Bytes::new());
        let reply = client::inspect(&self.handler, &known.id).await;
        prop_assert_eq!(reply.status, 410, "HEAD of an expired upload");
        let reply = client::append(&self.handler, &known.id, snapshot.offset, None, &nothing).await;
        prop_assert_eq!(reply.status, 410, "PATCH of an expired upload");

        let mut swept = Vec::new();
        let summary = self
            .handler
            .sweeper()
            .run(|gone| swept.push(gone.id.clone()))
            .await;
        prop_assert_eq!(summary.expect("a sweep").failed, 0);
        prop_assert!(
            swept.contains(&Some(known.id.clone())),
            "not swept: {:?}",
            swept
        );
        let _ = self.model.remove(known.name);
        self.expired.insert(known.name);
        self.look(known).await
    }

    async fn download(&mut self, known: &Known, from: u8, to: u8) -> TestCaseResult {
        let offset = match self.model.inspect(known.name) {
            Ok(Some(offset)) => offset,
            other => {
                let reply = client::download(&self.handler, &known.id, None).await;
                if !self.has_failed(&reply)? {
                    prop_assert_eq!(reply.status, other.map_or_else(status_of, |_| 400));
                }
                return Ok(());
            }
        };
        let is_whole = self
            .model
            .get(known.name)
            .is_some_and(Modelled::is_complete);
        if !is_whole && !self.reads_unfinished() {
            let reply = client::download(&self.handler, &known.id, None).await;
            if !self.has_failed(&reply)? {
                prop_assert_eq!(reply.status, 400);
            }
            return Ok(());
        }
        // Also of an unfinished upload, as far as it is there.
        let bytes = self
            .model
            .get(known.name)
            .map(|upload| upload.bytes.clone())
            .unwrap_or_default();
        prop_assert_eq!(offset, bytes.len() as u64);
        let (start, end) = (
            share(bytes.len() as u64, from),
            share(bytes.len() as u64, to),
        );
        let range = (start < end).then(|| format!("bytes={start}-{}", end - 1));
        let reply = client::download(&self.handler, &known.id, range.as_deref()).await;
        if self.has_failed(&reply)? {
            return Ok(());
        }
        let (status, wanted) = match range {
            Some(_) => (206, &bytes[start as usize..end as usize]),
            None => (200, &bytes[..]),
        };
        prop_assert_eq!(reply.status, status);
        let is_right = match self.mode {
            // It may have been cut.
            Mode::Faults(..) => wanted.starts_with(&reply.bytes),
            _ => wanted == reply.bytes,
        };
        prop_assert!(
            is_right,
            "{} bytes came, and other ones than {}",
            reply.bytes.len(),
            wanted.len()
        );
        Ok(())
    }

    async fn restart(&mut self, target: usize, sent: u8) -> TestCaseResult {
        let growing = self.pick_growing(target).await?;
        let mut hanging = None;
        if let Some((known, room)) = &growing {
            let (start, len) = (self.offset(known), share(room - 1, sent));
            hanging = Some(self.hang(known, len, false).await);
            self.model_hang(known, len, false);
            if let Mode::Exact = self.mode {
                self.await_offset(known, start + len).await?;
            }
            self.loose.insert(known.name, start);
        }
        self.calm();
        if !matches!(self.mode, Mode::Crashes)
            && let (Some((known, _)), Some(hanging)) = (&growing, hanging.take())
        {
            self.end(known, hanging).await;
        }
        self.store = (self.open)();
        self.handler = handler(self.store.clone(), &self.sink);
        if let Some(hanging) = hanging {
            hanging.task.abort();
            drop(hanging.task.await);
        }
        let exact = matches!(self.mode, Mode::Exact);
        for known in self.known.clone() {
            if let Some(acknowledged) = self.loose.remove(&known.name) {
                let most = self.offset(&known);
                self.settle(&known, if exact { most } else { acknowledged }, most)
                    .await?;
            }
        }
        for known in self.known.clone() {
            self.look(&known).await?;
        }
        Ok(())
    }

    /// Whether the server failed, which it may only if its store does.
    fn has_failed(&self, reply: &Reply) -> Result<bool, TestCaseError> {
        if is_failure(reply) {
            let may_fail = matches!(self.mode, Mode::Faults(..));
            let text = String::from_utf8_lossy(&reply.bytes);
            prop_assert!(may_fail, "the server failed: {} {}", reply.status, text);
        }
        Ok(is_failure(reply))
    }

    /// Asks how far an upload got, which must be between the two, with the right bytes, and takes it
    /// over into the model.
    async fn settle(&mut self, known: &Known, least: u64, most: u64) -> TestCaseResult {
        let Some(upload) = self.model.get(known.name) else {
            return self.look(known).await;
        };
        if matches!(upload.role, Role::Final { .. }) {
            return self.look(known).await;
        }
        self.calm();
        let reply = client::inspect(&self.handler, &known.id).await;
        prop_assert_eq!(reply.status, 200, "{} is gone", known);
        let offset = reply.number("upload-offset").expect("an offset");
        prop_assert!(
            (least..=most).contains(&offset),
            "{} is not in {}..={}",
            offset,
            least,
            most
        );
        let bytes = known.source[..offset as usize].to_vec();
        let length = reply.number("upload-length");
        let known_length = self.model.get(known.name).and_then(|upload| upload.length);
        prop_assert!(
            known_length.is_none() || known_length == length,
            "the length changed"
        );
        self.model.settle(known.name, bytes, length);
        self.look(known).await
    }

    /// What wasn't acknowledged may go in a crash as long as nobody has asked for it.
    async fn look_unless_loose(
        &mut self,
        known: &Known,
        acknowledged: bool,
        start: u64,
    ) -> TestCaseResult {
        if matches!(self.mode, Mode::Crashes) && !acknowledged {
            self.loose.insert(known.name, start);
            return Ok(());
        }
        self.look(known).await
    }

    /// Compares an upload with the model: what HEAD says, and the bytes in the store.
    async fn look(&mut self, known: &Known) -> TestCaseResult {
        self.calm();
        let reply = client::inspect(&self.handler, &known.id).await;
        let offset = match self.model.inspect(known.name) {
            Ok(offset) => offset,
            Err(refusal) => {
                prop_assert_eq!(reply.status, status_of(refusal), "HEAD of {}", known);
                return Ok(());
            }
        };
        prop_assert_eq!(reply.status, 200, "HEAD of {}", known);
        prop_assert_eq!(
            reply.number("upload-offset"),
            offset,
            "the offset of {}",
            known
        );
        let Some(upload) = self.model.get(known.name) else {
            return Ok(());
        };
        if upload.length.is_some() || !matches!(upload.role, Role::Final { .. }) {
            prop_assert_eq!(
                reply.number("upload-length"),
                upload.length,
                "the length of {}",
                known
            );
        }
        if upload.is_complete() {
            self.completed.insert(known.name);
        }
        let stored = self.read(known).await;
        prop_assert!(
            stored.is_none_or(|stored| stored == upload.bytes),
            "the bytes of {} are not the right ones",
            known
        );
        Ok(())
    }

    /// The bytes, if they can be read as yet.
    async fn read(&self, known: &Known) -> Option<Vec<u8>> {
        let snapshot = self.store.load(&known.id).await.expect("load");
        let reader = self.store.reader().expect("a reader");
        if !snapshot.is_complete() && !reader.reads_unfinished() {
            return None;
        }
        let mut stream = reader
            .read(&snapshot.upload, 0..snapshot.offset)
            .await
            .expect("read");
        let mut bytes = Vec::new();
        while let Some(piece) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            bytes.extend_from_slice(&piece.expect("a piece"));
        }
        Some(bytes)
    }

    /// Final uploads are joined in the background as soon as they can be: asking waits for that.
    async fn look_at_pending(&mut self) -> TestCaseResult {
        for known in self.known.clone() {
            let upload = self.model.get(known.name);
            if upload.is_some_and(|u| matches!(u.role, Role::Final { joined: false, .. })) {
                self.look(&known).await?;
            }
        }
        Ok(())
    }

    /// Created first, removed last, and completed once in between; nothing without announcement.
    fn check_events(&self) -> TestCaseResult {
        let unannounced = self.sink.unannounced();
        prop_assert!(unannounced.is_empty(), "not announced: {:?}", unannounced);
        for known in &self.known {
            let kinds = self.sink.kinds(&known.id);
            let mut wanted = vec![EventKind::Created];
            wanted.extend(
                self.completed
                    .contains(&known.name)
                    .then_some(EventKind::Completed),
            );
            let is_gone = self.model.get(known.name).is_none();
            let end = if self.expired.contains(&known.name) {
                EventKind::Expired
            } else {
                EventKind::Terminated
            };
            wanted.extend(is_gone.then_some(end));
            if matches!(self.mode, Mode::Exact) {
                prop_assert_eq!(kinds, wanted, "the events of {}", known);
                continue;
            }
            // What wasn't recorded before a failure is told again.
            prop_assert_eq!(kinds.first(), Some(&EventKind::Created));
            for kind in wanted {
                if kind != end {
                    prop_assert!(kinds.contains(&kind), "{} was not told: {:?}", known, kinds);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload {}", self.name)
    }
}

/// So many of 255 parts.
fn share(of: u64, parts: u8) -> u64 {
    of * u64::from(parts) / 255
}

/// How many bytes an upload still takes; as many as it is to have, if its length isn't told yet.
fn room(upload: &Modelled, known: &Known) -> u64 {
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
