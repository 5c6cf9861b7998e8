//! Failures of clients and servers: blocked writes, kills, sweeps, hooks that deny.

use futures_util::future::{Either, join_all};

use super::*;
use crate::engine::op::Follower;

impl ModelRun {
    /// Drops a request while its write is blocked. The next request must find the acknowledged bytes, and
    /// continue where that write has left the upload.
    pub(super) async fn block(
        &mut self,
        known: &KnownUpload,
        room: u64,
        part: u8,
        followers: &[Follower],
    ) -> TestCaseResult {
        let Some(gate) = self.gate.clone() else {
            return Ok(());
        };
        let start = self.offset(known);
        let len = share(room - 1, part).max(1);
        gate.close();
        let hanging = self.write_and_hang(known, len);
        gate.blocked(1).await;
        hanging.task.abort();
        drop(hanging.task.await);

        let requests = followers.iter().map(|follower| match follower {
            Follower::Inspect => Either::Left(client::inspect(&self.handler, &known.id)),
            Follower::Append { ahead, body } => {
                let offset = if *ahead { start + len } else { start };
                let sent = sent(&known.source, offset, start + room, body);
                let handler = &self.handler;
                Either::Right(async move {
                    client::append(handler, &known.id, offset, None, &sent).await
                })
            }
        });
        let reopen = async {
            // All of them have come as far as they come.
            sleep(Duration::from_millis(2)).await;
            gate.open();
        };
        let (replies, ()) = tokio::join!(join_all(requests), reopen);
        gate.quiet().await;
        let mut least = start;
        let appends = followers
            .iter()
            .any(|follower| matches!(follower, Follower::Append { .. }));
        for (follower, reply) in followers.iter().zip(replies) {
            // While the hook decides on a completion, HEAD is rejected.
            let is_pending =
                appends && reply.status == 423 && matches!(follower, Follower::Inspect);
            if is_pending {
                continue;
            }
            self.has_failed(&reply)?;
            if reply.is_success() {
                least = least.max(reply.number("upload-offset").expect("an offset"));
            }
        }
        self.check_range(known, least, known.source.len() as u64)
            .await
    }

    /// A PATCH that hangs after `len` bytes.
    fn write_and_hang(&self, known: &KnownUpload, len: u64) -> Hanging {
        let start = self.offset(known) as usize;
        let end = self
            .model
            .get(known.name)
            .map_or(start, |upload| start + remaining(upload, known) as usize);
        let mut sent = Sent::plain(known.source.slice(start..end));
        (sent.arrives, sent.cut) = (len as usize, true);
        client::append_and_hang(&self.handler, &known.id, start as u64, &sent)
    }

    /// Kills the server while it writes, and starts it again.
    pub(super) async fn kill(&mut self, targets: &[usize], part: u8, lands: u8) -> TestCaseResult {
        let Some(gate) = self.gate.clone() else {
            return Ok(());
        };
        let mut growing = BTreeMap::new();
        for target in targets {
            if let Some((known, room)) = self.pick_growing(*target).await? {
                growing.insert(known.name, (known, share(room, part).max(1)));
            }
        }
        gate.close();
        let hanging: Vec<_> = growing
            .values()
            .map(|(known, len)| self.write_and_hang(known, *len))
            .collect();
        gate.blocked(hanging.len()).await;
        gate.kill(lands).await;
        for hanging in hanging {
            hanging.task.abort();
            drop(hanging.task.await);
        }
        self.start_again();
        for (known, len) in growing.values() {
            let start = self.offset(known);
            self.check_range(known, start, start + len).await?;
        }
        for known in self.known.clone() {
            self.check_upload(&known).await?;
        }
        Ok(())
    }

    /// The application stops an upload while its bytes come in.
    pub(super) async fn stop(&mut self, known: &KnownUpload, len: u64) -> TestCaseResult {
        if !matches!(self.mode, Mode::Exact) {
            return Ok(());
        }
        let start = self.offset(known);
        let before = self.sink.events().len();
        let hanging = self.hang(known, len, false).await;
        self.await_offset(known, start + len).await?;
        // Progress is emitted by a timer.
        let mut stopped = false;
        for _ in 0..500 {
            let events = self.sink.events();
            let progress = events[before..]
                .iter()
                .rfind(|event| event.kind == EventKind::Progress && event.upload.id == known.id);
            if let Some(progress) = progress {
                progress.stop(landfall::hook::ClientResponse::default());
                stopped = true;
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        prop_assert!(stopped, "there was no progress to stop");
        let reply = timeout(Duration::from_secs(5), hanging.task).await;
        let reply = reply.expect("it stops").expect("it ends well");
        prop_assert_eq!(reply.status, 400, "a stopped upload");
        let _ = self.model.remove(known.name);
        self.check_upload(known).await
    }

    pub(super) async fn expire(&mut self, known: &KnownUpload) -> TestCaseResult {
        if self
            .model
            .get(known.name)
            .is_none_or(ModelUpload::is_complete)
        {
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
        self.check_upload(known).await
    }

    /// Takes the description of a finished upload away, as applications do that keep the file. An
    /// empty file is no loss.
    pub(super) async fn adopt(&mut self, known: &KnownUpload) -> TestCaseResult {
        if !self.is_complete(known) || self.offset(known) == 0 {
            return Ok(());
        }
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        files.adopt(&known.id);
        let _ = self.model.remove(known.name);
        self.adopted.insert(known.name);
        self.check_upload(known).await
    }

    /// Removes what belongs to no upload, and nothing else.
    pub(super) async fn sweep(&mut self) -> TestCaseResult {
        if !matches!(self.mode, Mode::Exact) {
            return Ok(());
        }
        let sweeper = self.handler.sweeper().orphan_age(Duration::ZERO);
        let summary = sweeper.run(|_| {}).await.expect("a sweep");
        prop_assert_eq!(summary.failed, 0);
        let is_there = |known: &&KnownUpload| self.model.get(known.name).is_some();
        let uploads = self.known.iter().filter(is_there);
        let uploads = uploads.map(|known| known.id.to_string()).collect();
        if let Some(files) = &mut self.files {
            files.check_swept(&uploads).map_err(TestCaseError::fail)?;
        }
        for known in self.known.clone() {
            self.check_upload(&known).await?;
        }
        Ok(())
    }
}
