use super::*;

impl ModelRun {
    /// Completes an upload directly in the store, so that its bytes can be read.
    pub(super) async fn fill_up(&self, known: &KnownUpload) -> TestCaseResult {
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
            let deferrer = self
                .store
                .capabilities()
                .length_deferrer
                .expect("a length deferrer");
            let declared = deferrer.declare_length(&described, length, newest).await;
            described = declared.expect("declare_length");
        }
        let resumed = self.store.resume(&described.id, newest).await;
        let (_, mut append) = resumed.expect("resume");
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

    /// Asks how far an upload got, which must be between the two, with the right bytes, and takes it
    /// over into the model.
    pub(super) async fn check_range(
        &mut self,
        known: &KnownUpload,
        least: u64,
        most: u64,
    ) -> TestCaseResult {
        let Some(upload) = self.model.get(known.name) else {
            return self.check_upload(known).await;
        };
        if matches!(upload.role, Role::Final { .. }) {
            return self.check_upload(known).await;
        }
        self.calm();
        let reply = client::inspect_unlocked(&self.handler, &known.id).await;
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
        self.model.adopt_actual(known.name, bytes, length);
        self.check_upload(known).await
    }

    /// Checks an upload, unless a crash may have removed bytes that were not acknowledged.
    pub(super) async fn check_unless_loose(
        &mut self,
        known: &KnownUpload,
        acknowledged: bool,
        start: u64,
    ) -> TestCaseResult {
        if matches!(self.mode, Mode::Crashes) && !acknowledged {
            self.loosen(known, start);
            return Ok(());
        }
        self.check_upload(known).await
    }

    /// Compares an upload with the model: what HEAD says, and the bytes in the store.
    pub(super) async fn check_upload(&mut self, known: &KnownUpload) -> TestCaseResult {
        self.calm();
        let inspected = self.model.inspect(known.name);
        let mut reply = client::inspect(&self.handler, &known.id).await;
        // Concatenated and completed, or found to be impossible, in the background: HEAD says that it is not known yet.
        let is_waiting =
            |status: u16, offset: Option<u64>| status == 423 || (status == 200 && offset.is_none());
        // A counted part whose description the application has taken is missed when the parts are concatenated.
        let is_counted = !self.adopted.is_empty() && self.model.lacks_part(known.name);
        let is_settled = matches!(inspected, Ok(None)) || inspected.is_err() && is_counted;
        let mut patience = 2000;
        while !is_settled && is_waiting(reply.status, reply.number("upload-offset")) && patience > 0
        {
            patience -= 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
            reply = client::inspect(&self.handler, &known.id).await;
        }
        let offset = match inspected {
            Ok(offset) => offset,
            Err(refusal) => {
                if is_counted && is_waiting(reply.status, reply.number("upload-offset")) {
                    return Ok(());
                }
                prop_assert_eq!(reply.status, status_of(refusal), "HEAD of {}", known);
                return Ok(());
            }
        };
        // While a part before the removed one is incomplete, the removal is noticed only by computing the
        // length.
        if reply.status == 410 && self.model.lacks_part(known.name) {
            return Ok(());
        }
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
    pub(super) async fn read(&self, known: &KnownUpload) -> Option<Vec<u8>> {
        let snapshot = self.store.load(&known.id).await.expect("load");
        let reader = self.store.capabilities().reader.expect("a reader");
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

    /// Final uploads are concatenated in the background as soon as they can be.
    pub(super) async fn check_pending(&mut self) -> TestCaseResult {
        for known in self.known.clone() {
            let upload = self.model.get(known.name);
            if upload.is_some_and(|u| matches!(u.role, Role::Final { joined: false, .. })) {
                self.check_upload(&known).await?;
            }
        }
        Ok(())
    }

    /// The kinds of an upload's events. A process emits a completion again that the one before it has emitted, but
    /// not recorded as acknowledged before it was killed.
    fn kinds(&self, id: &UploadId) -> Vec<EventKind> {
        let events = self.sink.events();
        let again = events.iter().filter(|event| event.redelivered);
        let again = again.filter(|event| event.upload.id == *id).count();
        let mut kinds = self.sink.kinds(id);
        for _ in 0..again.min(self.starts) {
            let is_repeated = |at: &usize| kinds[at - 1..=*at] == [EventKind::Completed; 2];
            if let Some(at) = (1..kinds.len()).find(is_repeated) {
                kinds.remove(at);
            }
        }
        kinds
    }

    /// Created first, removed last, and completed once in between; nothing without announcement.
    pub(super) async fn check_events(&self) -> TestCaseResult {
        let unannounced = self.sink.unprepared();
        prop_assert!(unannounced.is_empty(), "not declared: {:?}", unannounced);
        for known in &self.known {
            let mut wanted = vec![EventKind::Created];
            wanted.extend(
                self.completed
                    .contains(&known.name)
                    .then_some(EventKind::Completed),
            );
            let is_gone =
                self.model.get(known.name).is_none() && !self.adopted.contains(&known.name);
            let end = if self.expired.contains(&known.name) {
                EventKind::Expired
            } else {
                EventKind::Terminated
            };
            wanted.extend(is_gone.then_some(end));
            let is_exact = matches!(self.mode, Mode::Exact);
            // After a failure, an event that was not recorded before is emitted again.
            let is_met = |kinds: &[EventKind]| {
                let is_emitted = |kind: &EventKind| *kind == end || kinds.contains(kind);
                let has_all = kinds.first() == wanted.first() && wanted.iter().all(is_emitted);
                kinds == wanted || (!is_exact && has_all)
            };
            // The event of a background concatenation is emitted after the store shows it.
            let settled = timeout(Duration::from_secs(10), async {
                while !is_met(&self.kinds(&known.id)) {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            let is_settled = settled.await.is_ok();
            let kinds = self.kinds(&known.id);
            prop_assert!(is_settled, "{}: {:?} instead of {:?}", known, kinds, wanted);
        }
        Ok(())
    }

    pub(super) fn is_complete(&self, known: &KnownUpload) -> bool {
        let upload = self.model.get(known.name);
        upload.is_some_and(ModelUpload::is_complete)
    }
}
