use super::*;

impl ModelRun {
    /// A PATCH that hangs after `len` bytes; on return the server has them, or has failed.
    pub(super) async fn hang(&self, known: &KnownUpload, len: u64, verified: bool) -> Hanging {
        let start = self.offset(known);
        let end = start
            + self
                .model
                .get(known.name)
                .map_or(0, |upload| remaining(upload, known));
        let mut sent = Sent::plain(known.source.slice(start as usize..end as usize));
        (sent.arrives, sent.cut) = (len as usize, true);
        if verified {
            sent.checksum = Sum::Head { right: true };
        }
        let mut hanging = client::append_and_hang(&self.handler, &known.id, start, &sent);
        tokio::select! {
            () = hanging.reached.notified() => {}
            _ = &mut hanging.task => {
                // It failed: replace it with a pending task.
                hanging.task = tokio::spawn(std::future::pending());
            }
        }
        hanging
    }

    /// Drops a hanging request and waits for its write, with the next append.
    pub(super) async fn end(&self, known: &KnownUpload, hanging: Hanging) {
        hanging.task.abort();
        drop(hanging.task.await);
        self.calm();
        let locker = self.store.locker().expect("a locker");
        let lease = locker
            .acquire(&known.id, Duration::from_secs(5))
            .await
            .expect("a lease");
        let resumed = self.store.resume(&known.id, lease.fence()).await;
        drop(resumed.expect("resume"));
    }

    /// Applies the result of [`hang`](Self::hang) to the model.
    pub(super) fn model_hang(&mut self, known: &KnownUpload, len: u64, verified: bool) {
        let start = self.offset(known);
        let bytes = known.source.slice(start as usize..(start + len) as usize);
        let checksum = verified.then_some(true);
        let body = crate::model::Body {
            bytes: &bytes,
            stated: None,
            cut: true,
            checksum,
            late: false,
        };
        let hung = self.model.append(known.name, start, None, body);
        assert_eq!(hung, Err(Refusal::Cut));
    }

    pub(super) async fn take_over(
        &mut self,
        known: &KnownUpload,
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
            .map_or(0, |upload| offset + remaining(upload, known));
        let sent = sent(&known.source, offset, end, body);
        let reply = client::append(&self.handler, &known.id, offset, None, &sent).await;
        if let Mode::Faults(..) = self.mode {
            self.end(known, first).await;
            let least = reply.number("upload-offset").filter(|_| reply.is_success());
            let most = offset + sent.arrives as u64;
            return self
                .check_range(known, least.unwrap_or(start), most.max(start + len))
                .await;
        }
        match self.model.append(known.name, offset, None, sent.modelled()) {
            Ok(offset) => {
                prop_assert_eq!(reply.status, 204, "the newcomer");
                prop_assert_eq!(reply.number("upload-offset"), Some(offset));
            }
            Err(refusal) => {
                prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal);
                if refusal == Refusal::Size && sent.stated {
                    // Its head shows that it cannot succeed: it must not interrupt the writer.
                    prop_assert!(!first.task.is_finished(), "the writer was interrupted");
                    self.end(known, first).await;
                    return self.check_unless_loose(known, false, start).await;
                }
            }
        }
        let loser = timeout(Duration::from_secs(5), first.task).await;
        let loser = loser
            .expect("the previous writer stops")
            .expect("the loser ends well");
        prop_assert!(
            (400..500).contains(&loser.status),
            "the loser got {}",
            loser.status
        );
        self.check_unless_loose(known, reply.is_success(), start)
            .await
    }

    pub(super) async fn vanish(&mut self, known: &KnownUpload, len: u64) -> TestCaseResult {
        let start = self.offset(known);
        let hanging = self.hang(known, len, false).await;
        self.model_hang(known, len, false);
        match self.mode {
            Mode::Exact => {
                // Received bytes are visible during the transfer.
                self.await_offset(known, start + len).await?;
                hanging.task.abort();
                drop(hanging.task.await);
                self.check_upload(known).await
            }
            Mode::Faults(..) => {
                sleep(Duration::from_millis(10)).await;
                self.end(known, hanging).await;
                self.check_range(known, start, start + len).await
            }
            Mode::Crashes => {
                hanging.task.abort();
                drop(hanging.task.await);
                self.loosen(known, start);
                Ok(())
            }
        }
    }

    pub(super) async fn await_offset(&self, known: &KnownUpload, wanted: u64) -> TestCaseResult {
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

    pub(super) async fn restart(&mut self, target: usize, sent: u8) -> TestCaseResult {
        let growing = self.pick_growing(target).await?;
        let mut hanging = None;
        if let Some((known, room)) = &growing {
            let (start, len) = (self.offset(known), share(room - 1, sent));
            hanging = Some(self.hang(known, len, false).await);
            self.model_hang(known, len, false);
            if let Mode::Exact = self.mode {
                self.await_offset(known, start + len).await?;
            }
            self.loosen(known, start);
        }
        self.calm();
        if !matches!(self.mode, Mode::Crashes)
            && let (Some((known, _)), Some(hanging)) = (&growing, hanging.take())
        {
            self.end(known, hanging).await;
        }
        self.start_again();
        if let Some(hanging) = hanging {
            hanging.task.abort();
            drop(hanging.task.await);
        }
        let exact = matches!(self.mode, Mode::Exact);
        for known in self.known.clone() {
            if let Some(offsets) = self.loose.remove(&known.name) {
                let (acknowledged, most) = offsets.into_inner();
                self.check_range(&known, if exact { most } else { acknowledged }, most)
                    .await?;
                if !self.reads_unfinished() {
                    // Requests of the killed server may reach a distant store after this check.
                    self.loose.insert(known.name, self.offset(&known)..=most);
                }
            }
        }
        for known in self.known.clone() {
            if !self.loose.contains_key(&known.name) {
                self.check_upload(&known).await?;
            }
        }
        Ok(())
    }
}
