//! Checks that writers which replace each other on two handlers lose no acknowledged byte.
//!
//! The offset must not fall, and a stopped writer must get a response after which clients try again.

use std::time::Duration;

use bytes::Bytes;
use landfall::{Config, Handler, upload::UploadId};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    assert_content,
    client::{self, LIMIT, Response},
    open,
};
use crate::test_data;

const LENGTH: u64 = 900_000;
const WRITERS: u64 = 6;
const MAX_ATTEMPTS: usize = 5;

struct Writer {
    body: mpsc::UnboundedSender<Bytes>,
    response: JoinHandle<Response>,
}

fn start(handler: &Handler, id: &UploadId, offset: u64) -> Writer {
    let (sender, body) = client::open_body();
    let (handler, id) = (handler.clone(), id.clone());
    let response =
        tokio::spawn(
            async move { client::append(&handler, &id, offset, LENGTH - offset, body).await },
        );
    Writer {
        body: sender,
        response,
    }
}

pub(super) async fn a_new_client_resumes_at_the_stopped_writers_offset(config: &Config) {
    let mut config = config.clone();
    config.lease_wait = Duration::from_secs(2);
    let handlers = [open(&config), open(&config)];
    let handler = &handlers[0];
    let bytes = test_data::bytes(1, LENGTH as usize);
    let id = client::create_empty(handler, LENGTH).await;
    let mut writer = start(handler, &id, 0);
    let (mut sent, mut known) = (0, 0);
    for turn in 1..=WRITERS {
        let end = (LENGTH * turn / (WRITERS + 1)) as usize;
        for piece in test_data::chunks(&bytes.slice(sent..end), 50_000, turn) {
            let _ = writer.body.send(piece);
        }
        if turn % 2 == 0 {
            sleep(Duration::from_millis(50)).await;
        }
        // The offset that the writer's own process reports is acknowledged.
        let offset = client::offset(&handlers[(turn as usize + 1) % 2], &id).await;
        known = known.max(offset.unwrap_or(0));
        let handler = &handlers[turn as usize % 2];
        let possible = known..=end as u64;
        let (next, offset, stopped) =
            take_over(handler, &id, &bytes, possible, &mut writer.response).await;
        let status = stopped.status.as_u16();
        let comes_back = matches!(status, 409 | 423 | 460) || status >= 500;
        assert!(comes_back, "after {status} clients do not come back");
        // Its first byte is sent, and not acknowledged.
        (writer, sent, known) = (next, offset as usize + 1, offset);
    }
    let _ = writer.body.send(bytes.slice(sent..));
    drop(writer.body);
    writer.response.await.expect("a response").expect(204);
    assert_eq!(client::offset(handler, &id).await, Some(LENGTH));
    assert_content(&config, handler, &id, &bytes).await;
}

/// Starts a writer that stops another one. Returns its offset, and what the stopped one was answered.
async fn take_over(
    handler: &Handler,
    id: &UploadId,
    bytes: &Bytes,
    possible: std::ops::RangeInclusive<u64>,
    stopped: &mut JoinHandle<Response>,
) -> (Writer, u64, Response) {
    let mut known = *possible.start();
    let (mut before, mut last) = (None, None);
    for _ in 0..MAX_ATTEMPTS {
        let offset = client::offset(handler, id).await.expect("an offset");
        assert!(offset >= known, "the offset fell from {known} to {offset}");
        assert!(possible.contains(&offset), "{offset} not in {possible:?}");
        known = offset;
        let mut writer = start(handler, id, offset);
        let next = offset as usize;
        let _ = writer.body.send(bytes.slice(next..=next));
        // A request without a response may still wait, for the other one as well.
        let stopped = match before.take() {
            Some(response) => response,
            None => tokio::select! {
                response = &mut *stopped => response.expect("a response"),
                response = &mut writer.response => {
                    last = Some(response.expect("a response"));
                    continue;
                }
                () = sleep(LIMIT) => panic!("the stopped writer got no response within {LIMIT:?}"),
            },
        };
        match timeout(Duration::from_millis(300), &mut writer.response).await {
            Err(_) => return (writer, offset, stopped),
            Ok(response) => last = Some(response.expect("a response")),
        }
        before = Some(stopped);
    }
    panic!("after {MAX_ATTEMPTS} attempts the upload could not be resumed: {last:?}");
}
