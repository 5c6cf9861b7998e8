//! The `pre-grant` hook.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::{Request, StatusCode, request::Parts};
use landfall::hook::ClientResponse;
use landfall_hooks::{
    BlockingHooks, DeliveryError, FailureMode, HookName, HookNames, HookResponse, Message,
    Transport, UploadChanges,
};
use landfall_state::queue::{
    NewJob, Principal, Token,
    policy::{Policy, PolicyDenial, decide},
};
use serde_json::json;

/// Sends a fixed response and stores the messages.
#[derive(Debug)]
struct Application {
    answer: Option<HookResponse>,
    asked: Mutex<Vec<Message>>,
}

#[async_trait]
impl Transport for Application {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        self.asked.lock().unwrap().push(message.clone());
        self.answer
            .clone()
            .ok_or_else(|| DeliveryError::new("away"))
    }
}

fn application(answer: Option<HookResponse>) -> Arc<Application> {
    Arc::new(Application {
        answer,
        asked: Mutex::default(),
    })
}

fn asked(
    applications: &[&Arc<Application>],
    names: &[HookName],
    when_down: FailureMode,
) -> Vec<Arc<dyn Policy>> {
    let asker = |application: &&Arc<Application>| -> Arc<dyn Policy> {
        let transport: Arc<dyn Transport> = (*application).clone();
        Arc::new(BlockingHooks::new(
            transport,
            HookNames::from_names(names),
            when_down,
        ))
    };
    applications.iter().map(asker).collect()
}

fn ask() -> NewJob {
    let mut ask = NewJob::new("ann", "a", "a.png");
    ask.size = Some(10);
    ask.filetype = Some("image/png".into());
    ask.metadata.insert("album".into(), json!(7));
    ask
}

fn request(key: &str) -> Parts {
    let request = Request::post("/uploadjobs")
        .header("Authorization", format!("Bearer {key}"))
        .header("Cookie", "session=s3cret")
        .header("X-Key", key)
        .header("X-Request-Id", "r-1");
    request.body(()).unwrap().into_parts().0
}

async fn decided(policies: &[Arc<dyn Policy>], ask: &mut NewJob) -> Result<(), PolicyDenial> {
    decide(policies, &Principal::new("ann"), ask, &request("jwt")).await
}

const GRANT: &[HookName] = &[HookName::PreGrant];

#[tokio::test]
async fn it_hears_who_asks_for_what_and_no_secret() {
    let yes = application(Some(HookResponse::default()));
    let policy = asked(&[&yes], GRANT, FailureMode::Deny);
    let token = Token::random();
    let key = format!("lfk_{}", &token.reveal()[4..]);
    for secret in [token.reveal(), &key] {
        let mut ask = ask();
        let principal = Principal::new("ann");
        let parts = request(secret);
        decide(&policy, &principal, &mut ask, &parts).await.unwrap();
        assert_eq!(ask, self::ask());
        let message = yes.asked.lock().unwrap().pop().unwrap();
        assert_eq!(message.hook, HookName::PreGrant);
        let job = message.job.as_ref().unwrap();
        assert_eq!(job.subject.as_deref(), Some("ann"));
        assert_eq!((&*job.request_id, job.size), ("a", Some(10)));
        assert_eq!(job.metadata["album"], json!(7));
        assert_eq!(message.upload.id, "");
        assert_eq!(message.upload.metadata["filename"], "a.png");
        assert_eq!(message.request.uri, "/uploadjobs");
        assert_eq!(message.request.header("x-request-id"), Some("r-1"));
        let said = serde_json::to_string(&message).unwrap();
        assert!(
            !said.contains(&secret[4..]) && !said.contains("s3cret"),
            "{said}"
        );
        // The application's cookie may be forwarded, Landfall's own keys never.
        assert_eq!(message.request.header("cookie"), Some("session=s3cret"));
        assert_eq!(message.request.header("authorization"), None);
        assert_eq!(message.request.header("x-key"), None);
    }
    decided(&policy, &mut ask()).await.unwrap();
    let message = yes.asked.lock().unwrap().pop().unwrap();
    assert_eq!(message.request.header("authorization"), Some("Bearer jwt"));
    let said = serde_json::to_string(&message).unwrap();
    assert!(!said.contains("Bearer jwt"), "{said}");
}

#[tokio::test]
async fn its_refusal_reaches_who_asks() {
    for (client_response, status, message) in [
        (
            ClientResponse::default(),
            403,
            "upload denied by the application",
        ),
        (ClientResponse::text(402, "pay first\n"), 402, "pay first"),
        (ClientResponse::text(500, r#"{"message":"no"}"#), 403, "no"),
    ] {
        let no = application(Some(HookResponse {
            reject_upload: true,
            client_response,
            ..HookResponse::default()
        }));
        let other = application(Some(HookResponse::default()));
        let policy = asked(&[&no, &other], GRANT, FailureMode::Allow);
        let refused = decided(&policy, &mut ask()).await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), &*refused.message),
            (status, message)
        );
        assert!(
            other.asked.lock().unwrap().is_empty(),
            "no further hook is called"
        );
    }
}

#[tokio::test]
async fn it_narrows_what_is_granted() {
    let metadata = [("filename", "b.png"), ("tenant", "7")];
    let changes = UploadChanges {
        max_size: Some(20),
        content_types: vec!["image/*".into()],
        metadata: Some(metadata.map(|(k, v)| (k.into(), v.into())).into()),
        ..UploadChanges::default()
    };
    let narrower = application(Some(HookResponse {
        changes,
        ..HookResponse::default()
    }));
    let mut ask = ask();
    ask.limits.max_size = Some(30);
    ask.limits.max_active = Some(3);
    let policy = asked(&[&narrower], GRANT, FailureMode::Deny);
    decided(&policy, &mut ask).await.unwrap();
    assert_eq!(ask.limits.max_size, Some(20));
    assert_eq!(ask.limits.max_active, Some(3));
    assert_eq!(ask.limits.allowed_types, ["image/*"]);
    assert_eq!(ask.filename, "b.png");
    assert_eq!(ask.filetype.as_deref(), Some("image/png"));
    assert_eq!(
        ask.metadata,
        json!({"tenant": "7"}).as_object().unwrap().clone()
    );

    ask.size = Some(21);
    let refused = decided(&policy, &mut ask).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.field, Some("filesize"));
}

#[tokio::test]
async fn who_is_away_refuses_or_allows_as_configured() {
    let away = application(None);
    let policy = asked(&[&away], GRANT, FailureMode::Deny);
    let refused = decided(&policy, &mut ask()).await.unwrap_err();
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.message.contains("away"), "that is for the log");
    let policy = asked(&[&away], GRANT, FailureMode::Allow);
    decided(&policy, &mut ask()).await.unwrap();
    // Without `pre-grant`, the hook is not called.
    let policy = asked(&[&away], &[HookName::PreCreate], FailureMode::Deny);
    decided(&policy, &mut ask()).await.unwrap();
    assert_eq!(away.asked.lock().unwrap().len(), 2);
}
