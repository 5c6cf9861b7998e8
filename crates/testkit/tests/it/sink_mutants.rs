//! A sink that loses events while its listener is slow: the suite must find it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use landfall::event::{Event, EventKinds, EventSink, Reservation};
use landfall_testkit::sink::{self, Subject};
use tokio::sync::mpsc;

#[derive(Debug, Clone)]
struct LossySink(mpsc::Sender<Event>);

#[async_trait]
impl EventSink for LossySink {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            progress: false,
            ..EventKinds::ALL
        }
    }

    /// Reserves nothing.
    async fn reserve(&self) -> Result<Option<Reservation>, landfall::BoxError> {
        let sender = self.0.clone();
        let emit = move |event| drop(sender.try_send(event));
        Ok(Some(Reservation::new(emit)))
    }

    async fn emit(&self, event: Event) {
        let _ = self.0.send(event).await;
    }

    fn emit_progress(&self, _event: Event) {}
}

fn subject() -> Subject {
    let (sender, mut events) = mpsc::channel(1);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            hearing.lock().unwrap().push(Event::id(&event));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let listener = move || {
        let ids = heard.lock().unwrap().clone();
        Box::pin(std::future::ready(ids)) as _
    };
    Subject {
        sink: Arc::new(LossySink(sender)),
        listener: Box::new(listener),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_reserves_nothing_fails_its_suite() {
    let check = sink::all()
        .into_iter()
        .find(|check| check.name() == "dropped_requests_lose_no_event");
    let check = check.unwrap();
    let run = tokio::spawn(async move { check.run(&subject()).await });
    assert!(run.await.is_err(), "lost events are not found");
}
