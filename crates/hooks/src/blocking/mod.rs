//! Blocking hooks over a transport.

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

use self::cache::{Cache, CacheKey};
use crate::{
    Creations, HookName, HookNames, HookResponse, JobData, Message, MessageId, RequestData,
    Transport, UploadData,
};

/// The treatment of requests whose blocking hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailureMode {
    /// Denies the request with status 500.
    #[default]
    Deny,
    /// Allows the request and logs a warning.
    Allow,
}

/// Calls an application's blocking hooks over a [`Transport`].
#[derive(Debug)]
pub struct BlockingHooks {
    transport: Arc<dyn Transport>,
    names: HookNames,
    failure_mode: FailureMode,
    creations: Creations,
    cache: Cache,
}

impl BlockingHooks {
    /// Creates blocking hooks for the `pre-…` names among `names`.
    pub fn new(transport: Arc<dyn Transport>, names: HookNames, failure_mode: FailureMode) -> Self {
        Self {
            transport,
            names,
            failure_mode,
            creations: Creations::default(),
            cache: Cache::default(),
        }
    }

    /// Lets `pre-finish` wait for these creations.
    #[must_use]
    pub fn after(mut self, creations: Creations) -> Self {
        self.creations = creations;
        self
    }

    /// Calls `pre-grant` before a grant is issued, if [`HookName::PreGrant`] is enabled.
    ///
    /// `job` and `upload` describe the requested upload, `request` is the request for the grant. If
    /// the hook is not enabled, this returns the default response.
    ///
    /// # Errors
    /// The hook failed and the failure mode is [`FailureMode::Deny`].
    ///
    /// # Cancel safety
    /// Can be dropped; it is then unknown whether the application was called.
    pub async fn before_grant(
        &self,
        job: JobData,
        upload: UploadData,
        request: RequestData,
    ) -> Result<HookResponse, BoxError> {
        if !self.names.contains(HookName::PreGrant) {
            return Ok(HookResponse::default());
        }
        let id = MessageId::random();
        let now = SystemTime::now();
        let mut message = Message::about_job(HookName::PreGrant, now, job, upload, id);
        message.request = request;
        self.call(message).await
    }

    async fn call(&self, message: Message) -> Result<HookResponse, BoxError> {
        match self.transport.deliver(&message).await {
            Ok(response) => Ok(response),
            Err(failure) if self.failure_mode == FailureMode::Allow => {
                tracing::warn!(hook = %message.hook, error = %failure, "blocking hook failed, request allowed by failure mode");
                Ok(HookResponse::default())
            }
            Err(failure) if failure.client_visible => {
                // tusd's wording. The hook has set no status, so that the upload's state decides.
                let text = format!("ERR_INTERNAL_SERVER_ERROR: {failure}\n");
                let mut client_response = ClientResponse::text(500, text);
                client_response.status = None;
                Ok(HookResponse {
                    failed: true,
                    client_response,
                    ..HookResponse::default()
                })
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

#[async_trait]
impl Hook for BlockingHooks {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: self.names.contains(HookName::PreCreate),
            before_finish: self.names.contains(HookName::PreFinish),
            before_terminate: self.names.contains(HookName::PreTerminate),
            on_access: self.names.contains(HookName::PreAccess),
        }
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        let id = MessageId::random();
        let message = Message::blocking(HookName::PreCreate, request, upload, 0, id);
        Ok(self.call(message).await?.into_create_decision()?)
    }

    async fn before_finish(
        &self,
        request: &RequestInfo,
        snapshot: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        let created = self
            .creations
            .wait_attempted(self.transport.name(), upload.id.as_str());
        created.await;
        // A repeated call has the same id, so that receivers can detect it.
        let id = MessageId::with_id(upload.event_id("finish"));
        let message = Message::blocking(HookName::PreFinish, request, upload, offset, id);
        Ok(self
            .call(message)
            .await?
            .into_decision(|response| response.reject_upload))
    }

    async fn before_terminate(
        &self,
        request: &RequestInfo,
        snapshot: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let id = MessageId::random();
        let (upload, offset) = (&snapshot.upload, snapshot.offset);
        let message = Message::blocking(HookName::PreTerminate, request, upload, offset, id);
        Ok(self
            .call(message)
            .await?
            .into_decision(|response| response.reject_termination))
    }

    async fn on_access(
        &self,
        request: &RequestInfo,
        access: &Access,
    ) -> Result<Decision, BoxError> {
        let key = CacheKey::new(request, access);
        if let Some(decision) = self.cache.get(&key, Instant::now()) {
            return Ok(decision);
        }
        let message = Message::access(request, access, MessageId::random());
        let response = self.call(message).await?;
        let ttl = response.cache_for.filter(|_| !response.failed);
        // No other rejection can be meant.
        let decision = response.into_decision(|response| {
            response.reject_access || response.reject_upload || response.reject_termination
        });
        if let Some(ttl) = ttl.filter(|ttl| !ttl.is_zero()) {
            self.cache
                .insert(key, decision.clone(), ttl, Instant::now());
        }
        Ok(decision)
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
    use crate::DeliveryError;

    #[derive(Debug)]
    struct Scripted {
        response: Option<HookResponse>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl Transport for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        async fn deliver(&self, _: &Message) -> Result<HookResponse, DeliveryError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let response = self.response.clone();
            response.ok_or_else(|| DeliveryError::new("the application is away"))
        }
    }

    fn hooks(
        response: Option<HookResponse>,
        failure_mode: FailureMode,
    ) -> (Arc<Scripted>, BlockingHooks) {
        let calls = AtomicUsize::new(0);
        let transport = Arc::new(Scripted { response, calls });
        let names = HookNames::from_names(&HookName::ALL);
        (
            transport.clone(),
            BlockingHooks::new(transport, names, failure_mode),
        )
    }

    async fn access(hooks: &BlockingHooks) -> Result<Decision, BoxError> {
        let access = Access::new(Intent::Create, None);
        hooks.on_access(&RequestInfo::default(), &access).await
    }

    #[tokio::test]
    async fn access_decisions_are_cached_for_the_requested_time() {
        let response = HookResponse {
            reject_access: true,
            cache_for: Some(Duration::from_secs(60)),
            ..HookResponse::default()
        };
        let (transport, hooks) = hooks(Some(response.clone()), FailureMode::Deny);
        for _ in 0..3 {
            assert!(matches!(access(&hooks).await.unwrap(), Decision::Deny(_)));
        }
        assert_eq!(transport.calls.load(Ordering::Relaxed), 1);

        for change in [
            |response: &mut HookResponse| response.cache_for = Some(Duration::ZERO),
            |response: &mut HookResponse| response.failed = true,
        ] {
            let mut response = response.clone();
            change(&mut response);
            let (transport, hooks) = self::hooks(Some(response), FailureMode::Deny);
            for _ in 0..2 {
                access(&hooks).await.unwrap();
            }
            assert_eq!(transport.calls.load(Ordering::Relaxed), 2);
        }
    }

    #[tokio::test]
    async fn failed_hook_denies_or_allows_by_failure_mode() {
        let (_, closed) = hooks(None, FailureMode::Deny);
        let error = access(&closed).await.unwrap_err();
        assert!(error.to_string().contains("away"));
        let (transport, open) = hooks(None, FailureMode::Allow);
        for _ in 0..2 {
            assert_eq!(access(&open).await.unwrap(), Decision::allow());
        }
        // A failure is not cached.
        assert_eq!(transport.calls.load(Ordering::Relaxed), 2);
    }

    /// A transport whose errors clients may see.
    #[derive(Debug)]
    struct VisibleError;

    #[async_trait]
    impl Transport for VisibleError {
        fn name(&self) -> &str {
            "visible-error"
        }

        async fn deliver(&self, _: &Message) -> Result<HookResponse, DeliveryError> {
            Err(DeliveryError::new("unexpected return code 1: too late").client_visible())
        }
    }

    #[tokio::test]
    async fn client_visible_errors_reach_the_client() {
        let names = HookNames::from_names(&HookName::ALL);
        let hooks = BlockingHooks::new(Arc::new(VisibleError), names, FailureMode::Deny);
        let Decision::Fail(reply) = access(&hooks).await.unwrap() else {
            panic!("expected a failure");
        };
        let body = "ERR_INTERNAL_SERVER_ERROR: unexpected return code 1: too late\n";
        assert_eq!(reply.status, None, "the request and the upload decide");
        assert_eq!(reply.body.as_deref(), Some(body.as_bytes()));
        let open = BlockingHooks::new(Arc::new(VisibleError), names, FailureMode::Allow);
        assert_eq!(access(&open).await.unwrap(), Decision::allow());
    }

    #[tokio::test]
    async fn invalid_upload_id_is_an_error() {
        let mut response = HookResponse::default();
        response.changes.id = Some("../up".into());
        let (_, hooks) = hooks(Some(response), FailureMode::Deny);
        let upload = Upload::new(UploadId::random(), None);
        let decision = hooks.before_create(&RequestInfo::default(), &upload).await;
        assert!(decision.unwrap_err().to_string().contains("../up"));
    }
}
