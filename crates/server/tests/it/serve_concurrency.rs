//! Two processes on one directory.

use std::{thread, time::Duration};

use rustix::process::Signal;

use crate::serve_harness::{Landfall, MIB, Request, content, eventually};

#[test]
fn a_sweeper_keeps_running_uploads_of_another_process() {
    let one = Landfall::start(&["-expire-unfinished", "0", "-sweep-interval", "0"]);
    let sweeping = Landfall::on(
        one.dir(),
        &["-expire-unfinished", "1s", "-sweep-interval", "50ms"],
    );
    let bytes = content(1, MIB);
    let mut client = one.client();
    let abandoned = client.create(MIB);
    let running = client.create(MIB);
    client.begin(Request::patch(&running, 0), MIB);
    client.send(&bytes[..400_000]);
    // Silent until the unused upload is removed, and long past its own lifetime.
    eventually("the abandoned upload stays", || {
        !one.file(&abandoned).exists()
    });
    thread::sleep(Duration::from_secs(2));
    client.send(&bytes[400_000..]);
    let answer = client.answer();
    assert_eq!((answer.status, answer.offset()), (204, MIB));
    client.holds(&running, &bytes);
    assert_eq!(client.head(&abandoned).status, 404);
    assert_eq!(sweeping.metric("landfall_uploads_expired_total"), 1.0);
}

#[test]
fn a_final_upload_waits_for_a_part_of_another_process() {
    let one = Landfall::start(&[]);
    let other = Landfall::on(one.dir(), &[]);
    let (mut first, mut second) = (one.client(), other.client());
    let partial = || {
        Request::post()
            .with("Upload-Concat", "partial")
            .with("Upload-Length", 5)
    };
    let hello = first.ask(partial()).created();
    let world = first.ask(partial()).created();
    assert_eq!(first.patch(&hello, 0, b"hello").status, 204);
    let list = format!("final;{hello} {world}");
    let joined = first
        .ask(Request::post().with("Upload-Concat", list))
        .created();
    let waiting = second.head(&joined);
    assert_eq!(
        (waiting.status, waiting.header("Upload-Offset")),
        (200, None)
    );
    assert_eq!(waiting.number("Upload-Length"), 10);

    assert_eq!(second.patch(&world, 0, b"world").status, 204);
    eventually("the final upload is not concatenated", || {
        first.head(&joined).header("Upload-Offset") == Some("10")
    });
    first.holds(&joined, b"helloworld");
    second.holds(&joined, b"helloworld");
}

#[test]
fn a_suspended_process_keeps_its_upload_without_stale_writes() {
    let frozen = Landfall::start(&[]);
    let other = Landfall::on(frozen.dir(), &["-acquire-lock-timeout", "300ms"]);
    let bytes = content(6, 2 * MIB);
    let mut hung = frozen.client();
    let path = hung.create(2 * MIB);
    hung.begin(Request::patch(&path, 0), 2 * MIB);
    hung.send(&bytes[..1_000_000]);
    let mut client = other.client();
    client.reaches(&path, 1_000_000);
    frozen.signal(Signal::STOP);
    // It cannot yield, and may still be about to write: no other process may write.
    let answer = client.patch(&path, 1_000_000, &bytes[1_000_000..]);
    answer.refuses(423, "ERR_UPLOAD_LOCKED");
    assert!(answer.number("Retry-After") > 0);
    let mut client = other.client();
    assert_eq!(client.offset(&path), 1_000_000);
    // Other uploads don't mind.
    let beside = client.upload(&bytes);
    client.holds(&beside, &bytes);

    frozen.signal(Signal::CONT);
    client.resumes_to(&path, &bytes);
    hung.answer().refuses(423, "ERR_UPLOAD_INTERRUPTED");
    let _ = hung.try_send([0; 1000]);
    client.holds(&path, &bytes);
}
