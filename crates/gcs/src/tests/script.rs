//! A transport that sends nothing: it answers each request with the next step of a script, or by a function.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request as HttpRequest, Response};
use http_body_util::{BodyExt as _, Full};
use landfall::BoxError;
use landfall_objects::{HttpSend, PayloadBody, ResponseBody};

/// The answer to one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Reply {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The request is lost, or its response is.
    Lost,
}

pub(crate) fn reply(status: u16, body: &str) -> Step {
    Step::Reply {
        status,
        headers: vec![("content-length", body.len().to_string())],
        body: body.to_owned(),
    }
}

pub(crate) fn lost() -> Step {
    Step::Lost
}

impl Step {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Scheme, host, path and query.
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.url)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Responder = Box<dyn Fn(&Request) -> Option<Step> + Send + Sync>;

pub(crate) struct Script {
    steps: Mutex<VecDeque<Step>>,
    answer: Responder,
    requests: Mutex<Vec<Request>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            answer: Box::new(|_| None),
            requests: Mutex::default(),
        })
    }

    /// Answers by a function, whatever the order of the requests.
    pub(crate) fn by(
        answer: impl Fn(&Request) -> Option<Step> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            steps: Mutex::default(),
            answer: Box::new(answer),
            requests: Mutex::default(),
        })
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("unbroken").clone()
    }

    pub(crate) fn request(&self, index: usize) -> Request {
        self.requests()[index].clone()
    }
}

#[async_trait]
impl HttpSend for Script {
    async fn send(
        &self,
        request: HttpRequest<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = Request {
            method: head.method,
            url: head.uri.to_string(),
            headers: head.headers,
            body,
        };
        let step = (self.answer)(&request);
        let line = request.line();
        self.requests.lock().expect("unbroken").push(request);
        let next = || self.steps.lock().expect("unbroken").pop_front();
        match step
            .or_else(next)
            .unwrap_or_else(|| panic!("one request too many: {line}"))
        {
            Step::Lost => Err("the connection was closed".into()),
            Step::Reply {
                status,
                headers,
                body,
            } => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
                Ok(response.body(body.boxed_unsync())?)
            }
        }
    }
}
