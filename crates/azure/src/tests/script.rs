//! A transport that answers requests with scripted steps and records the requests.

use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use landfall::BoxError;
use landfall_objects::{HttpSend, PayloadBody, ResponseBody};

/// The response to a request, or its loss.
#[derive(Debug)]
pub(super) struct Step {
    /// 0: its response is lost.
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    /// The connection breaks after the body.
    cut: bool,
}

impl Step {
    pub(super) fn lost() -> Self {
        Self::new(0)
    }

    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
            cut: false,
        }
    }

    /// A refusal with this code.
    pub(super) fn refusal(status: u16, code: &str) -> Self {
        Self::new(status).header("x-ms-error-code", code)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn cut(mut self) -> Self {
        self.cut = true;
        self
    }
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) url: String,
    headers: HeaderMap,
    pub(super) body: String,
}

impl Sent {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Debug)]
pub(super) struct Script {
    steps: Mutex<VecDeque<Step>>,
    sent: Mutex<Vec<Sent>>,
}

impl Script {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            sent: Mutex::default(),
        }
    }

    /// The requests so far; every step has had one.
    pub(super) fn finished(&self) -> Vec<Sent> {
        assert!(
            self.steps.lock().unwrap().is_empty(),
            "a request is missing"
        );
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl HttpSend for Script {
    async fn send(
        &self,
        request: Request<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.sent.lock().unwrap().push(Sent {
            method: head.method,
            url: head.uri.to_string(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        let step = self.steps.lock().unwrap().pop_front();
        let step = step.expect("one request too many");
        // Others may run while it is on its way.
        tokio::task::yield_now().await;
        if step.status == 0 {
            return Err("the connection broke".into());
        }
        let mut response = Response::builder().status(step.status);
        for (name, value) in step.headers {
            response = response.header(name, value);
        }
        let frame = Ok(http_body::Frame::data(Bytes::from(step.body)));
        let end = step
            .cut
            .then(|| Err(BoxError::from("the connection broke")));
        let frames = futures_util::stream::iter([frame].into_iter().chain(end));
        Ok(response.body(UnsyncBoxBody::new(StreamBody::new(frames)))?)
    }
}
