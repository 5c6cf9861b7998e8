//! Uploads that another run continues.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use landfall_client::{
    ChunkSize, Client, Completed, Error, Event, FileFingerprints, Protocol, Source, Upload,
};
use tempfile::TempDir;

use crate::{
    builder, client, content, in_time,
    proxy::{Fault, Proxy},
    server::{Server, response},
};

struct Site {
    server: Server,
    dir: TempDir,
}

impl Site {
    async fn start() -> Self {
        Self {
            server: Server::start().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("file.bin");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn records(&self) -> PathBuf {
        self.dir.path().join("records")
    }

    /// A new client, as after a restart of the program.
    fn client(&self, protocol: Protocol) -> Client {
        let store = FileFingerprints::new(self.records());
        builder()
            .protocol(protocol)
            .fingerprints(store)
            .build()
            .unwrap()
    }

    fn unfinished(&self) -> Vec<landfall_client::StoredUpload> {
        FileFingerprints::new(self.records()).list().unwrap()
    }

    fn record_count(&self) -> usize {
        std::fs::read_dir(self.records()).map_or(0, Iterator::count)
    }
}

/// Runs an upload, and drops it once the server has some bytes, and so many uploads. Bytes that the client has sent may still be on
/// their way, and are lost then.
async fn interrupt(server: &Server, upload: Upload, uploads: usize) {
    let urls = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let created = urls.clone();
    let upload = upload.on_event(move |event| {
        if let Event::Created { url } = event {
            created.lock().push(url);
        }
    });
    let mut run = Box::pin(upload.rate_limit(8_000_000).run());
    let mut stored = 0;
    while stored <= 1_000_000 || urls.lock().len() < uploads {
        let ended = tokio::time::timeout(Duration::from_millis(5), &mut run).await;
        assert!(ended.is_err(), "the upload ended: {ended:?}");
        stored = 0;
        let known = urls.lock().clone();
        for url in known {
            stored += server.offset(&url).await;
        }
    }
}

async fn finish(upload: Upload) -> Completed {
    in_time(upload.run()).await.unwrap()
}

fn touch(path: &Path, seconds: u64) {
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[tokio::test]
async fn another_run_continues_where_the_first_stopped() {
    for protocol in [Protocol::Tus, Protocol::Draft] {
        for parts in [1, 3] {
            let site = Site::start().await;
            let bytes = content(10_000_000);
            let path = site.file(&bytes);
            let upload = |client: Client| {
                client
                    .upload(site.server.endpoint(), Source::file(&path))
                    .metadata("filename", "a")
                    .parallel(parts)
            };
            let is_divided = parts > 1 && protocol == Protocol::Tus;
            let uploads = if is_divided { parts } else { 1 };
            interrupt(&site.server, upload(site.client(protocol)), uploads).await;
            assert_eq!(site.record_count(), 1);
            let created = site.server.count("POST");
            let completed = finish(upload(site.client(protocol))).await;
            assert!(completed.resumed_from > 500_000, "{completed:?}");
            assert_eq!(completed.bytes_sent, 10_000_000 - completed.resumed_from);
            assert_eq!(site.server.bytes(&completed.url).await, bytes);
            assert_eq!(site.server.count("POST") - created, usize::from(is_divided));
            assert!(site.unfinished().is_empty());
        }
    }
}

#[tokio::test]
async fn a_finished_file_is_not_sent_again() {
    // One request, several, and parts.
    for (length, parts) in [(9, 1), (3_000_000, 1), (3_000_000, 3)] {
        for protocol in [Protocol::Tus, Protocol::Draft] {
            let site = Site::start().await;
            let bytes = content(length);
            let path = site.file(&bytes);
            let upload = |client: Client| {
                let upload = client.upload(site.server.endpoint(), Source::file(&path));
                upload.metadata("filename", "a").parallel(parts)
            };
            let first = finish(upload(site.client(protocol))).await;
            assert_eq!(first.bytes_sent, length as u64);
            let created = site.server.count("POST");
            for _ in 0..2 {
                let again = finish(upload(site.client(protocol))).await;
                assert_eq!((again.bytes_sent, &again.url), (0, &first.url));
                assert_eq!(again.length, length as u64);
            }
            assert_eq!(site.server.count("POST"), created);
            assert!(site.unfinished().is_empty());

            // It was removed, the file has changed, or the user wants it.
            site.server.remove(&first.url).await;
            let again = finish(upload(site.client(protocol))).await;
            assert_eq!(again.bytes_sent, length as u64);
            touch(&path, 1000);
            let changed = finish(upload(site.client(protocol))).await;
            assert_eq!(changed.bytes_sent, length as u64);
            let wanted = finish(upload(site.client(protocol)).resume(false)).await;
            assert_eq!(wanted.bytes_sent, length as u64);
        }
    }
}

#[tokio::test]
async fn a_changed_file_is_never_appended_to_the_old_upload() {
    let old = content(10_000_000);
    let mut changed_start = old.to_vec();
    changed_start[100] ^= 1;
    let longer = content(10_000_001);
    // The time of the last change is the same in the first case, which only the samples show.
    for (new, time) in [
        (&changed_start[..], 1000),
        (&old[..], 2000),
        (&longer[..], 1000),
    ] {
        let site = Site::start().await;
        let path = site.file(&old);
        touch(&path, 1000);
        let endpoint = site.server.endpoint();
        interrupt(
            &site.server,
            site.client(Protocol::Tus)
                .upload(&endpoint, Source::file(&path)),
            1,
        )
        .await;
        site.file(new);
        touch(&path, time);
        let events = Arc::new(AtomicBool::new(false));
        let seen = events.clone();
        let upload = site
            .client(Protocol::Tus)
            .upload(&endpoint, Source::file(&path))
            .on_event(move |event| {
                if let Event::StartedAnew { .. } = event {
                    seen.store(true, Relaxed);
                }
            });
        let completed = finish(upload).await;
        assert_eq!(completed.resumed_from, 0);
        assert!(site.server.bytes(&completed.url).await == new);
        assert!(events.load(Relaxed));
    }
}

#[tokio::test]
async fn a_file_that_changes_during_the_upload_is_an_error() {
    let site = Site::start().await;
    let path = site.file(&content(10_000_000));
    let changed = path.clone();
    let upload = site
        .client(Protocol::Tus)
        .upload(site.server.endpoint(), Source::file(&path))
        .chunk_size(ChunkSize::Fixed(1_000_000))
        .on_event(move |event| {
            if let Event::Progress(progress) = event
                && progress.bytes > 0
            {
                let file = std::fs::File::options().write(true).open(&changed).unwrap();
                file.set_len(5_000_000).unwrap();
            }
        });
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::SourceChanged(_)), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_file_that_is_written_to_during_its_only_request_is_an_error() {
    let site = Site::start().await;
    let path = site.file(&content(4_000_000));
    touch(&path, 1000);
    let changed = path.clone();
    let upload = site
        .client(Protocol::Tus)
        .upload(site.server.endpoint(), Source::file(&path))
        .rate_limit(8_000_000)
        .on_event(move |event| {
            if let Event::Progress(progress) = event
                && (1..4_000_000).contains(&progress.bytes)
            {
                // The size stays, and these bytes have been sent.
                touch(&changed, 2000);
            }
        });
    let error = in_time(upload.run()).await.unwrap_err();
    assert!(matches!(error, Error::SourceChanged(_)), "{error}");
    // The last bytes were not sent, so the upload is not complete, and the next run starts anew.
    let seen = site.server.seen();
    assert_eq!(seen.iter().filter(|seen| seen.method == "PATCH").count(), 1);
    let completed = finish(
        site.client(Protocol::Tus)
            .upload(site.server.endpoint(), Source::file(&path)),
    )
    .await;
    assert_eq!(completed.resumed_from, 0);
    assert_eq!(site.server.count("POST"), 2);
}

#[tokio::test]
async fn torn_records_are_ignored() {
    let site = Site::start().await;
    let bytes = content(10_000_000);
    let path = site.file(&bytes);
    let endpoint = site.server.endpoint();
    interrupt(
        &site.server,
        site.client(Protocol::Tus)
            .upload(&endpoint, Source::file(&path)),
        1,
    )
    .await;
    let record = std::fs::read_dir(site.records())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let text = std::fs::read(&record).unwrap();
    for torn in [
        &text[..0],
        &text[..text.len() / 2],
        &text[..text.len() - 1],
        b"{}",
    ] {
        std::fs::write(&record, torn).unwrap();
        let upload = site
            .client(Protocol::Tus)
            .upload(&endpoint, Source::file(&path));
        let completed = finish(upload).await;
        assert_eq!(completed.resumed_from, 0);
        assert_eq!(site.server.bytes(&completed.url).await, bytes);
    }
}

#[tokio::test]
async fn an_upload_that_is_gone_is_started_anew() {
    let site = Site::start().await;
    let bytes = content(10_000_000);
    let path = site.file(&bytes);
    let endpoint = site.server.endpoint();
    for parts in [1, 3] {
        let urls = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let created = urls.clone();
        let upload = |parts: usize| {
            let upload = site
                .client(Protocol::Tus)
                .upload(&endpoint, Source::file(&path));
            let upload = upload.metadata("parts", parts.to_string());
            upload.parallel(parts)
        };
        let first = upload(parts).on_event(move |event| {
            if let Event::Created { url } = event {
                created.lock().push(url);
            }
        });
        let mut first = Box::pin(first.rate_limit(4_000_000).run());
        while urls.lock().len() < parts {
            let ended = tokio::time::timeout(Duration::from_millis(5), &mut first).await;
            assert!(ended.is_err());
        }
        drop(first);
        let gone = urls.lock()[0].clone();
        client().terminate(gone.as_str()).await.unwrap();
        let completed = finish(upload(parts)).await;
        assert_eq!(site.server.bytes(&completed.url).await, bytes);
    }
}

#[tokio::test]
async fn uploads_that_vanish_while_they_run_are_started_anew_a_bounded_number_of_times() {
    for status in [404, 410] {
        let server = Server::with(
            |_| {},
            move |request| (request.method() == "PATCH").then(|| response(status, &[])),
        )
        .await;
        let upload = client().upload(server.endpoint(), Source::bytes(content(2_000_000)));
        let error = in_time(upload.run()).await.unwrap_err();
        assert!(matches!(error, Error::Gone(_)), "{error}");
        assert_eq!(server.count("POST"), 4);
    }
}

#[tokio::test]
async fn an_upload_by_its_url_is_continued_and_never_started_anew() {
    let site = Site::start().await;
    let bytes = content(2_000_000);
    let client = client();
    // An upload that has the first bytes.
    let url = {
        let server = &site.server;
        let proxy = Proxy::start(server.address, |_| Fault::Close(400_000)).await;
        let urls = Arc::new(parking_lot::Mutex::new(None));
        let created = urls.clone();
        let upload = client
            .upload(proxy.endpoint(), Source::bytes(bytes.clone()))
            .on_event(move |event| {
                if let Event::Created { url } = event {
                    *created.lock() = Some(url);
                }
            });
        let control = upload.control();
        let stop = async {
            while server.count("PATCH") < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            control.cancel();
        };
        let (result, ()) = tokio::join!(upload.run(), stop);
        assert!(matches!(result, Err(Error::Cancelled)));
        let mut url = urls.lock().clone().unwrap();
        url.set_port(Some(server.address.port())).unwrap();
        url
    };
    let upload = client.upload(site.server.endpoint(), Source::bytes(bytes.clone()));
    let completed = finish(upload.url(&url)).await;
    assert!(completed.resumed_from > 100_000);
    assert_eq!(completed.url, url);
    assert_eq!(site.server.bytes(&url).await, bytes);

    client.terminate(url.as_str()).await.unwrap();
    let upload = client.upload(site.server.endpoint(), Source::bytes(bytes));
    let error = in_time(upload.url(&url).run()).await.unwrap_err();
    assert!(matches!(error, Error::Gone(_)), "{error}");
}

#[tokio::test]
async fn an_upload_of_another_length_is_not_continued() {
    let site = Site::start().await;
    let client = client();
    let upload = client.upload(site.server.endpoint(), Source::bytes("abc"));
    let url = finish(upload).await.url;
    let upload = client.upload(site.server.endpoint(), Source::bytes("abcd"));
    let error = in_time(upload.url(&url).run()).await.unwrap_err();
    assert!(matches!(error, Error::SourceChanged(_)), "{error}");
}

#[tokio::test]
async fn a_created_upload_is_listed_and_continued() {
    for protocol in [Protocol::Tus, Protocol::Draft] {
        let site = Site::start().await;
        let bytes = content(300_000);
        let path = site.file(&bytes);
        let upload = || {
            let upload = site
                .client(protocol)
                .upload(site.server.endpoint(), Source::file(&path));
            upload.parallel(3)
        };
        let url = in_time(upload().create()).await.unwrap();
        assert_eq!(in_time(upload().create()).await.unwrap(), url);
        assert_eq!(client().inspect(url.as_str()).await.unwrap().offset, 0);
        let store = FileFingerprints::new(site.records());
        let listed = store.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].source, path.canonicalize().unwrap());
        assert_eq!(listed[0].endpoint, site.server.endpoint());
        assert_eq!(
            (listed[0].url.as_ref(), listed[0].length),
            (Some(&url), 300_000)
        );
        let completed = finish(upload()).await;
        assert_eq!(completed.url, url);
        assert_eq!(site.server.bytes(&url).await, bytes);
        assert!(store.list().unwrap().is_empty());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn records_are_private_and_another_upload_of_the_file_has_its_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::start().await;
    let path = site.file(&content(3_000_000));
    let mut urls = std::collections::HashSet::new();
    for (name, token) in [("a", "1"), ("b", "1"), ("a", "2")] {
        let upload = site
            .client(Protocol::Tus)
            .upload(site.server.endpoint(), Source::file(&path))
            .metadata("filename", name)
            .token(token);
        urls.insert(in_time(upload.create()).await.unwrap());
    }
    assert_eq!((urls.len(), site.record_count()), (3, 3));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&site.records()), 0o700);
    for entry in std::fs::read_dir(site.records()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}
