use super::*;

impl ModelRun {
    pub(super) async fn create(
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
                // The client does not know the URL, but the upload is kept.
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
                // The client does not know the URL, but the upload is kept.
                prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal);
                prop_assert!(
                    self.sink.events().len() > before,
                    "it was cut, and is not kept"
                );
                self.sink.last_created().expect("an upload")
            }
        };
        let known = self.remember(name, id, seed);
        self.check_unless_loose(&known, appended.is_ok(), 0).await
    }

    pub(super) async fn append(
        &mut self,
        known: &KnownUpload,
        at: At,
        declare: Declare,
        body: &BodyOp,
        refused: bool,
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
        let was_complete = self.is_complete(known);
        let ends_well = !sent.cut && !matches!(body.size, Size::Beyond(_));
        let hook = self.hook.clone().filter(|_| refused && ends_well);
        let refused = hook.is_some();
        if let Some(hook) = &hook {
            hook.refuse(Some(known.id.clone()));
        }
        let reply = client::append(&self.handler, &known.id, offset, declared, &sent).await;
        if let Some(hook) = &hook {
            hook.refuse(None);
        }
        if self.has_failed(&reply)? {
            return self
                .check_range(known, start, start + sent.arrives as u64)
                .await;
        }
        match self
            .model
            .append(known.name, offset, declared, sent.modelled())
        {
            Ok(_) if refused && !was_complete && self.is_complete(known) => {
                prop_assert_eq!(reply.status, Refusing::STATUS);
                let _ = self.model.remove(known.name);
            }
            Ok(offset) => {
                prop_assert_eq!(reply.status, 204);
                prop_assert_eq!(reply.number("upload-offset"), Some(offset));
            }
            Err(refusal) => prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal),
        }
        self.check_unless_loose(known, reply.is_success(), start)
            .await
    }

    pub(super) async fn race(&mut self, known: &KnownUpload, body: &BodyOp) -> TestCaseResult {
        let start = self.offset(known);
        let end = self
            .model
            .get(known.name)
            .map_or(0, |upload| start + remaining(upload, known));
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
        self.check_range(known, least, start + sent.arrives as u64)
            .await
    }

    pub(super) async fn concatenate(&mut self, parts: &[usize]) -> TestCaseResult {
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
                self.check_upload(&known).await
            }
            Err(refusal) => {
                prop_assert_eq!(reply.status, status_of(refusal), "{:?}", refusal);
                Ok(())
            }
        }
    }

    pub(super) async fn terminate(&mut self, known: &KnownUpload) -> TestCaseResult {
        let reply = client::terminate(&self.handler, &known.id).await;
        if self.has_failed(&reply)? {
            self.calm();
            // All or nothing: the next look tells which.
            let reply = client::inspect_unlocked(&self.handler, &known.id).await;
            if reply.status == 404 {
                let _ = self.model.remove(known.name);
            }
        } else {
            match self.model.remove(known.name) {
                Ok(()) => prop_assert_eq!(reply.status, 204),
                Err(refusal) => prop_assert_eq!(reply.status, status_of(refusal)),
            }
        }
        self.check_upload(known).await
    }

    pub(super) async fn download(
        &mut self,
        known: &KnownUpload,
        from: u8,
        to: u8,
    ) -> TestCaseResult {
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
            .is_some_and(ModelUpload::is_complete);
        if !is_whole && (self.hook.is_some() || !self.reads_unfinished()) {
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
}
