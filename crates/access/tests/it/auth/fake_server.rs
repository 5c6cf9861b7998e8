//! A fake server: an identity provider or the application.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, request::Parts};
use tokio::{net::TcpListener, task::JoinHandle};

type Script = dyn Fn(&HeaderMap) -> Response + Send + Sync;

/// A server with configured responses.
pub struct FakeServer {
    pub url: String,
    script: Arc<Mutex<Box<Script>>>,
    seen: Arc<Mutex<Vec<Parts>>>,
    is_silent: Arc<AtomicBool>,
    at_once: Arc<AtOnce>,
    serving: JoinHandle<()>,
}

impl FakeServer {
    pub async fn start(script: impl Fn(&HeaderMap) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/there?secret=1", listener.local_addr().unwrap());
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let is_silent = Arc::new(AtomicBool::new(false));
        let at_once = Arc::new(AtOnce::default());
        let (does, all, silent) = (script.clone(), seen.clone(), is_silent.clone());
        let counter = at_once.clone();
        let answer = move |request: Request| async move {
            let _counted = counter.enter();
            let (head, _) = request.into_parts();
            all.lock().unwrap().push(head.clone());
            if silent.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            // Long enough for those who ask at the same time to meet.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            does.lock().unwrap()(&head.headers)
        };
        let serving = tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(answer))
                .await
                .unwrap();
        });
        Self {
            url,
            script,
            seen,
            is_silent,
            at_once,
            serving,
        }
    }

    /// From now on it answers so.
    pub fn now(&self, script: impl Fn(&HeaderMap) -> Response + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// From now on it answers nothing.
    pub fn be_silent(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the maximum number of concurrent requests.
    pub fn most_at_once(&self) -> usize {
        self.at_once.most.load(Ordering::Relaxed)
    }

    pub fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtOnce {
    fn enter(self: &Arc<Self>) -> Counted {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Counted(self.clone())
    }
}

/// An authenticated response.
struct Counted(Arc<AtOnce>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer.
pub fn answer(status: u16, headers: &[(&'static str, &str)], body: impl Into<Body>) -> Response {
    let mut answer = (StatusCode::from_u16(status).unwrap(), body.into()).into_response();
    for (name, value) in headers {
        answer.headers_mut().append(*name, value.parse().unwrap());
    }
    answer
}
