//! A transport as a hook that is asked.

mod cache;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use landfall::{
    BoxError,
    hook::{Access, ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, Upload},
};

use self::cache::{Cache, Likeness};
use crate::{
    HookName, HookNames, Message, Reaction, Transport,
    message::{JobFacts, Number, RequestFacts, UploadFacts},
};

/// What happens to a request if nobody answers the question about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenDown {
    /// It fails with 500.
    #[default]
    Refuse,
    /// It goes on as if it were allowed, with a line in the log.
    Allow,
}

/// Puts a handler's questions to an application over a [`Transport`].
#[derive(Debug)]
pub struct Asker {
    transport: Arc<dyn Transport>,
    names: HookNames,
    when_down: WhenDown,
    cache: Cache,
}

impl Asker {
    /// Asks the questions among `names`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, names: HookNames, when_down: WhenDown) -> Self {
        Self {
            transport,
            names,
            when_down,
            cache: Cache::default(),
        }
    }

    /// Asks whether somebody may be given leave to upload, if [`HookName::PreGrant`] is among its
    /// names: `job` and `upload` are what is asked for, `request` is the one that asks. Without that
    /// name the answer is the default one: go on.
    ///
    /// # Errors
    /// There was no answer, and that refuses.
    ///
    /// # Cancel safety
    /// May be dropped; whether the application was asked is then unknown.
    pub async fn before_grant(
        &self,
        job: JobFacts,
        upload: UploadFacts,
        request: RequestFacts,
    ) -> Result<Reaction, BoxError> {
        if !self.names.has(HookName::PreGrant) {
            return Ok(Reaction::default());
        }
        let number = Number::unique();
        let now = SystemTime::now();
        let mut message = Message::about_job(HookName::PreGrant, now, job, upload, number);
        message.request = request;
        self.put(message).await
    }

    async fn put(&self, message: Message) -> Result<Reaction, BoxError> {
        match self.transport.deliver(&message).await {
            Ok(reaction) => Ok(reaction),
            Err(failure) if self.when_down == WhenDown::Allow => {
                tracing::warn!(hook = %message.hook, error = %failure, "a hook is down: allowed");
                Ok(Reaction::default())
            }
            Err(failure) if failure.for_client => Ok(Reaction {
                failed: true,
                // As tusd says it.
                reply: ClientResponse::text(500, format!("ERR_INTERNAL_SERVER_ERROR: {failure}\n")),
                ..Reaction::default()
            }),
            Err(failure) => Err(failure.into()),
        }
    }
}

#[async_trait]
impl Hook for Asker {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: self.names.has(HookName::PreCreate),
            before_finish: self.names.has(HookName::PreFinish),
            before_terminate: self.names.has(HookName::PreTerminate),
            on_access: self.names.has(HookName::PreAccess),
        }
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        let number = Number::unique();
        let message = Message::question(HookName::PreCreate, request, upload, 0, number);
        Ok(self.put(message).await?.into_creation()?)
    }

    async fn before_finish(
        &self,
        request: &RequestInfo,
        snapshot: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        // Should it be asked again, a receiver can tell.
        let number = Number::named(upload.event_id("finish"));
        let message = Message::question(HookName::PreFinish, request, upload, offset, number);
        Ok(self
            .put(message)
            .await?
            .into_answer(|reaction| reaction.reject_upload))
    }

    async fn before_terminate(
        &self,
        request: &RequestInfo,
        snapshot: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let number = Number::unique();
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        let message = Message::question(HookName::PreTerminate, request, upload, offset, number);
        Ok(self
            .put(message)
            .await?
            .into_answer(|reaction| reaction.reject_termination))
    }

    async fn on_access(
        &self,
        request: &RequestInfo,
        access: &Access<'_>,
    ) -> Result<Decision, BoxError> {
        let likeness = Likeness::new(request, access);
        if let Some(answer) = self.cache.get(&likeness, Instant::now()) {
            return Ok(answer);
        }
        let message = Message::access(request, access, Number::unique());
        let reaction = self.put(message).await?;
        let holds = reaction.cache_for.filter(|_| !reaction.failed);
        let answer = reaction.into_answer(|reaction| reaction.reject_access);
        if let Some(time) = holds.filter(|time| !time.is_zero()) {
            self.cache
                .put(likeness, answer.clone(), time, Instant::now());
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use landfall::{hook::Intent, upload::UploadId};

    use super::*;
    use crate::Failure;

    #[derive(Debug)]
    struct Scripted {
        reaction: Option<Reaction>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl Transport for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        async fn deliver(&self, _: &Message) -> Result<Reaction, Failure> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let reaction = self.reaction.clone();
            reaction.ok_or_else(|| Failure::new("the application is away"))
        }
    }

    fn asker(reaction: Option<Reaction>, when_down: WhenDown) -> (Arc<Scripted>, Asker) {
        let calls = AtomicUsize::new(0);
        let transport = Arc::new(Scripted { reaction, calls });
        let names = HookNames::of(&HookName::ALL);
        (transport.clone(), Asker::new(transport, names, when_down))
    }

    async fn access(asker: &Asker) -> Result<Decision, BoxError> {
        let access = Access {
            intent: Intent::Create,
            id: None,
        };
        asker.on_access(&RequestInfo::default(), &access).await
    }

    #[tokio::test]
    async fn an_access_is_asked_about_once_while_the_answer_holds() {
        let reaction = Reaction {
            reject_access: true,
            cache_for: Some(Duration::from_secs(60)),
            ..Reaction::default()
        };
        let (transport, asker) = asker(Some(reaction.clone()), WhenDown::Refuse);
        for _ in 0..3 {
            assert!(matches!(access(&asker).await.unwrap(), Decision::Deny(_)));
        }
        assert_eq!(transport.calls.load(Ordering::Relaxed), 1);

        for change in [
            |reaction: &mut Reaction| reaction.cache_for = Some(Duration::ZERO),
            |reaction: &mut Reaction| reaction.failed = true,
        ] {
            let mut reaction = reaction.clone();
            change(&mut reaction);
            let (transport, asker) = self::asker(Some(reaction), WhenDown::Refuse);
            for _ in 0..2 {
                access(&asker).await.unwrap();
            }
            assert_eq!(transport.calls.load(Ordering::Relaxed), 2);
        }
    }

    #[tokio::test]
    async fn who_is_down_refuses_or_allows_as_configured() {
        let (_, closed) = asker(None, WhenDown::Refuse);
        let error = access(&closed).await.unwrap_err();
        assert!(error.to_string().contains("away"));
        let (transport, open) = asker(None, WhenDown::Allow);
        for _ in 0..2 {
            assert_eq!(access(&open).await.unwrap(), Decision::allow());
        }
        // That was no answer to be remembered.
        assert_eq!(transport.calls.load(Ordering::Relaxed), 2);
    }

    /// Fails in words that are meant for the client.
    #[derive(Debug)]
    struct Outspoken;

    #[async_trait]
    impl Transport for Outspoken {
        fn name(&self) -> &str {
            "outspoken"
        }

        async fn deliver(&self, _: &Message) -> Result<Reaction, Failure> {
            Err(Failure::new("unexpected return code 1: too late").for_client())
        }
    }

    #[tokio::test]
    async fn the_applications_own_words_reach_the_client() {
        let names = HookNames::of(&HookName::ALL);
        let asker = Asker::new(Arc::new(Outspoken), names, WhenDown::Refuse);
        let Decision::Fail(reply) = access(&asker).await.unwrap() else {
            panic!("that is no answer");
        };
        let body = "ERR_INTERNAL_SERVER_ERROR: unexpected return code 1: too late\n";
        assert_eq!(reply, ClientResponse::text(500, body));
        let open = Asker::new(Arc::new(Outspoken), names, WhenDown::Allow);
        assert_eq!(access(&open).await.unwrap(), Decision::allow());
    }

    #[tokio::test]
    async fn an_id_that_cannot_be_one_is_an_error() {
        let mut reaction = Reaction::default();
        reaction.changes.id = Some("../up".into());
        let (_, asker) = asker(Some(reaction), WhenDown::Refuse);
        let upload = Upload::new(UploadId::random(), None);
        let asked = asker.before_create(&RequestInfo::default(), &upload).await;
        assert!(asked.unwrap_err().to_string().contains("../up"));
    }
}
