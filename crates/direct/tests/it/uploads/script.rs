//! A hook that responds as its test requires.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use landfall::{
    BoxError,
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, Upload},
};
use tokio::sync::Notify;

/// Responds to each call as its test requires, and records the calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    lines: Arc<Mutex<Lines>>,
    is_silent: bool,
}

#[derive(Debug, Default)]
struct Lines {
    creation: Option<fn(CreateDecision) -> CreateDecision>,
    answers: HashMap<&'static str, Vec<Result<Decision, String>>>,
    asked: Vec<String>,
    requests: Vec<RequestInfo>,
    pause: Option<Arc<Pause>>,
}

/// The place at which a hook call waits for its test.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// The hook was called.
    pub(crate) called: Notify,
    /// The hook may respond.
    pub(crate) answer: Notify,
}

impl Script {
    /// Creates a hook that is never called.
    pub(crate) fn silent() -> Self {
        Self {
            is_silent: true,
            ..Self::default()
        }
    }

    /// Makes the next completion hook wait.
    pub(crate) fn pause(&self) -> Arc<Pause> {
        let pause = Arc::<Pause>::default();
        self.lines.lock().unwrap().pause = Some(pause.clone());
        pause
    }

    /// Sets the response to the next call of this name; allowed by default.
    pub(crate) fn next(&self, question: &'static str, answer: Result<Decision, String>) {
        let mut lines = self.lines.lock().unwrap();
        lines.answers.entry(question).or_default().push(answer);
    }

    pub(crate) fn creation(&self, change: fn(CreateDecision) -> CreateDecision) {
        self.lines.lock().unwrap().creation = Some(change);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.lines.lock().unwrap().asked.clone()
    }

    pub(crate) fn requests(&self) -> Vec<RequestInfo> {
        self.lines.lock().unwrap().requests.clone()
    }

    fn judge(
        &self,
        question: &'static str,
        request: &RequestInfo,
        note: String,
    ) -> Result<Decision, BoxError> {
        let mut lines = self.lines.lock().unwrap();
        lines.asked.push(format!("{question}{note}"));
        lines.requests.push(request.clone());
        match lines.answers.get_mut(question) {
            Some(answers) if !answers.is_empty() => answers.remove(0).map_err(Into::into),
            _ => Ok(Decision::allow()),
        }
    }
}

#[async_trait]
impl Hook for Script {
    fn points(&self) -> HookPoints {
        match self.is_silent {
            true => HookPoints::default(),
            false => HookPoints::ALL,
        }
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        let name = upload.metadata.get_text("filename").unwrap_or_default();
        let answer = self.judge("create", request, format!(" {name}"))?;
        let change = self.lines.lock().unwrap().creation.unwrap_or(|same| same);
        Ok(change(CreateDecision::new(answer)))
    }

    async fn before_finish(
        &self,
        request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let pause = self.lines.lock().unwrap().pause.take();
        if let Some(pause) = pause {
            pause.called.notify_one();
            pause.answer.notified().await;
        }
        self.judge("finish", request, format!(" {}", upload.offset))
    }

    async fn before_terminate(
        &self,
        request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        self.judge("terminate", request, format!(" {}", upload.offset))
    }
}

pub(crate) fn refuse(text: &'static str) -> Result<Decision, String> {
    Ok(Decision::Deny(ClientResponse::text(422, text)))
}
