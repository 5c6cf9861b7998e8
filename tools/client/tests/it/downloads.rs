//! Downloads: ranges, resumption, digests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use landfall_client::{Error, Event, Source};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWrite;
use url::Url;

use crate::{
    builder, client, content, in_time,
    proxy::{Fault, Proxy},
    server::{Server, response},
};

/// A writer whose bytes a test can read.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        // Partial writes.
        let size = bytes.len().min(10_007);
        self.0.lock().extend_from_slice(&bytes[..size]);
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn stored(server: &Server, bytes: &Bytes) -> Url {
    let upload = client().upload(server.endpoint(), Source::bytes(bytes.clone()));
    in_time(upload.run()).await.unwrap().url
}

/// Returns the URL through a proxy.
fn through(proxy: &Proxy, url: &Url) -> Url {
    let mut url = url.clone();
    url.set_port(Some(proxy.address.port())).unwrap();
    url
}

fn entries(dir: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn files_are_downloaded_in_one_or_several_ranges() {
    let server = Server::start().await;
    for size in [0, 1, 1_048_576, 1_048_577, 9_000_001] {
        let bytes = content(size);
        let url = stored(&server, &bytes).await;
        for parallel in [1, 4] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let download = client().download(url.as_str(), &path).parallel(parallel);
            let done = in_time(download.run()).await.unwrap();
            assert_eq!(
                (done.length, done.bytes_received),
                (size as u64, size as u64)
            );
            assert!(std::fs::read(&path).unwrap() == bytes);
            assert_eq!(entries(&dir), ["file"]);
        }
        let memory = Memory::default();
        let done = in_time(client().download_to(url.as_str(), memory.clone()).run())
            .await
            .unwrap();
        assert_eq!(done.length, size as u64);
        assert!(*memory.0.lock() == bytes);
    }
}

#[tokio::test]
async fn interrupted_downloads_continue() {
    let server = Server::start().await;
    let bytes = content(4_000_000);
    let url = stored(&server, &bytes).await;
    // Cuts after the bytes of requests, so that many small requests are made over few connections.
    for parallel in [1, 3] {
        let proxy = Proxy::start(server.address, |number| match number % 3 {
            2 => Fault::None,
            _ => Fault::CutResponse(600_000),
        })
        .await;
        let url = through(&proxy, &url);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let download = client().download(url.as_str(), &path).parallel(parallel);
        let done = in_time(download.run()).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        // What had arrived was not requested again.
        assert_eq!(done.bytes_received, 4_000_000);
        let memory = Memory::default();
        let done = in_time(client().download_to(url.as_str(), memory.clone()).run())
            .await
            .unwrap();
        assert!(*memory.0.lock() == bytes);
        assert_eq!(done.bytes_received, 4_000_000);
    }
}

#[tokio::test]
async fn another_run_continues_and_a_changed_file_starts_anew() {
    let server = Server::start().await;
    let bytes = content(30_000_000);
    let url = stored(&server, &bytes).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for changes in [false, true] {
        let received = Arc::new(Mutex::new(0));
        let slow = builder().rate_limit(40_000_000).build().unwrap();
        let seen = received.clone();
        let download = slow
            .download(url.as_str(), &path)
            .parallel(2)
            .on_event(move |event| {
                if let Event::Progress(progress) = event {
                    *seen.lock() = progress.acknowledged;
                }
            });
        let mut run = Box::pin(download.run());
        while *received.lock() < 18_000_000 {
            let ended = tokio::time::timeout(Duration::from_millis(1), &mut run).await;
            assert!(ended.is_err(), "the download ended");
        }
        drop(run);
        assert!(!path.exists());
        if changes {
            let state = dir.path().join("file.part-state");
            // It may still be storing its state.
            std::fs::File::open(&state).unwrap().lock().unwrap();
            let text = std::fs::read_to_string(&state).unwrap();
            // The ETag of another file, as long as its own.
            let start = text.rfind("\\\"\",\"length").unwrap() - 2;
            let tag = &text[start..start + 2];
            let state_text = text.replace(&format!("{tag}\\\""), "zz\\\"");
            std::fs::write(&state, state_text).unwrap();
        }
        let done = in_time(client().download(url.as_str(), &path).run())
            .await
            .unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        match changes {
            false => assert!(done.bytes_received < 20_000_000, "{done:?}"),
            true => assert!(done.bytes_received >= 30_000_000, "{done:?}"),
        }
        std::fs::remove_file(&path).unwrap();
        assert!(entries(&dir).is_empty());
    }
}

#[tokio::test]
async fn the_digest_is_verified() {
    let bytes = content(3_000_000);
    let digest = |bytes: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(bytes));
        format!("sha-256=:{text}:")
    };
    for (text, is_valid) in [(digest(&bytes), true), (digest(b"other"), false)] {
        let server = Server::start().await;
        let client = builder()
            .protocol(landfall_client::Protocol::Draft)
            .build()
            .unwrap();
        let upload = client.upload(server.endpoint(), Source::bytes(bytes.clone()));
        let value = digest(&bytes).parse().unwrap();
        let upload = upload.header("repr-digest".parse().unwrap(), value);
        let url = in_time(upload.run()).await.unwrap().url;
        // A server whose file has changed on the disk.
        let target = url.to_string();
        let claim = text.clone();
        let broken = Server::with(
            |_| {},
            move |_| {
                let headers = [("repr-digest", claim.as_str()), ("etag", "\"a\"")];
                Some(response(200, &headers).map(|_| "not these bytes"))
            },
        )
        .await;
        let source = if is_valid { target } else { broken.endpoint() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let result = in_time(client.download(&source, &path).run()).await;
        let memory = Memory::default();
        let written = in_time(client.download_to(&source, memory.clone()).run()).await;
        match is_valid {
            true => {
                assert!(result.unwrap().verified && written.unwrap().verified);
                assert!(std::fs::read(&path).unwrap() == bytes && *memory.0.lock() == bytes);
            }
            false => {
                assert!(matches!(result, Err(Error::DigestMismatch)), "{result:?}");
                assert!(matches!(written, Err(Error::DigestMismatch)), "{written:?}");
                assert!(entries(&dir).is_empty());
            }
        }
    }
}

#[tokio::test]
async fn missing_files_and_unwritable_targets_are_errors() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}unknown", server.endpoint());
    let error = in_time(client().download(&url, dir.path().join("a")).run()).await;
    assert!(matches!(error, Err(Error::Gone(_))), "{error:?}");
    let error = in_time(client().download(&url, dir.path().join("no/a")).run()).await;
    assert!(matches!(error, Err(Error::Target(_))), "{error:?}");
}

fn path_of(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("file")
}

#[cfg(unix)]
#[tokio::test]
async fn files_that_are_not_those_of_a_download_stay_as_they_are() {
    use std::{fs, os::unix::fs::symlink};
    let server = Server::start().await;
    let bytes = content(2_000_000);
    let url = stored(&server, &bytes).await;
    let victim = |dir: &tempfile::TempDir| {
        let path = dir.path().join("victim");
        fs::write(&path, "of another program").unwrap();
        path
    };
    type Prepare = Box<dyn Fn(&tempfile::TempDir)>;
    let text = |name: &'static str| -> Prepare {
        Box::new(move |dir| fs::write(dir.path().join(name), "of another program").unwrap())
    };
    let link = |name: &'static str| -> Prepare {
        Box::new(move |dir| symlink(victim(dir), dir.path().join(name)).unwrap())
    };
    let hard_link = |name: &'static str| -> Prepare {
        Box::new(move |dir| fs::hard_link(victim(dir), dir.path().join(name)).unwrap())
    };
    let cases = [
        text("file.part"),
        text("file.part-state"),
        text("file.part-state.tmp"),
        link("file.part"),
        link("file.part-state"),
        hard_link("file.part"),
        hard_link("file.part-state"),
        Box::new(|dir| symlink(dir.path().join("nothing"), dir.path().join("file.part")).unwrap()),
        Box::new(|dir| fs::create_dir(dir.path().join("file.part")).unwrap()),
    ];
    for prepare in cases {
        let dir = tempfile::tempdir().unwrap();
        prepare(&dir);
        let before: Vec<_> = entries(&dir);
        in_time(client().download(url.as_str(), path_of(&dir)).run())
            .await
            .unwrap();
        assert!(fs::read(path_of(&dir)).unwrap() == bytes);
        fs::remove_file(path_of(&dir)).unwrap();
        let mut after = entries(&dir);
        after.sort_unstable();
        let mut expected = before;
        expected.sort_unstable();
        assert_eq!(after, expected);
        for name in after {
            let path = dir.path().join(&name);
            if path.is_file() {
                assert_eq!(
                    fs::read_to_string(&path).unwrap(),
                    "of another program",
                    "{name}"
                );
            }
        }
    }
}

/// Starts a download, and drops it once it has received some bytes and stored its state.
async fn interrupted(url: &Url, path: &std::path::Path) {
    let slow = builder().rate_limit(40_000_000).build().unwrap();
    let received = Arc::new(Mutex::new(0));
    let seen = received.clone();
    let download = slow.download(url.as_str(), path).on_event(move |event| {
        if let Event::Progress(progress) = event {
            *seen.lock() = progress.acknowledged;
        }
    });
    let mut run = Box::pin(download.run());
    while *received.lock() < 18_000_000 {
        let ended = tokio::time::timeout(Duration::from_millis(1), &mut run).await;
        assert!(ended.is_err(), "the download ended");
    }
}

#[tokio::test]
async fn a_state_that_does_not_agree_with_its_file_is_not_acted_on() {
    use std::fs;
    let server = Server::start().await;
    let bytes = content(30_000_000);
    let url = stored(&server, &bytes).await;
    // Another file has the name, and the state is that of another target.
    for takes_other in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        interrupted(&url, &path_of(&dir)).await;
        let part = dir.path().join("file.part");
        let target = match takes_other {
            true => {
                fs::rename(
                    dir.path().join("file.part-state"),
                    dir.path().join("b.part-state"),
                )
                .unwrap();
                fs::rename(&part, dir.path().join("b.part")).unwrap();
                dir.path().join("b")
            }
            false => {
                fs::remove_file(&part).unwrap();
                fs::write(&part, vec![7; 30_000_000]).unwrap();
                path_of(&dir)
            }
        };
        let done = in_time(client().download(url.as_str(), &target).run()).await;
        assert_eq!(done.unwrap().bytes_received, 30_000_000);
        assert!(fs::read(&target).unwrap() == bytes);
        assert_eq!(entries(&dir).len(), 3, "{:?}", entries(&dir));
    }
}

#[tokio::test]
async fn an_existing_target_is_replaced_only_if_it_may_be() {
    use std::fs;
    let server = Server::start().await;
    let bytes = content(2_000_000);
    let url = stored(&server, &bytes).await;
    let is_taken = |result: &Result<_, Error>| match result {
        Err(Error::Target(error)) => error.kind() == std::io::ErrorKind::AlreadyExists,
        _ => false,
    };
    let dir = tempfile::tempdir().unwrap();
    let path = path_of(&dir);
    fs::write(&path, "of another program").unwrap();
    let result = in_time(client().download(url.as_str(), &path).replace(false).run()).await;
    assert!(is_taken(&result), "{result:?}");
    // Another program takes the name during the download.
    fs::remove_file(&path).unwrap();
    let late = path.clone();
    let download = client().download(url.as_str(), &path).replace(false);
    let download = download.on_event(move |_| fs::write(&late, "of another program").unwrap());
    let result = in_time(download.run()).await;
    assert!(is_taken(&result), "{result:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "of another program");
    // The bytes are there for a download that may replace it.
    let done = in_time(client().download(url.as_str(), &path).run()).await;
    assert_eq!(done.unwrap().bytes_received, 0);
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(entries(&dir), ["file"]);
}

#[cfg(unix)]
#[tokio::test]
async fn links_and_devices_are_no_targets_of_renames() {
    use std::{fs, os::unix::fs::symlink};
    let server = Server::start().await;
    let url = stored(&server, &content(10)).await;
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("nothing"), &link).unwrap();
    let result = in_time(client().download(url.as_str(), &link).replace(false).run()).await;
    assert!(matches!(result, Err(Error::Target(_))), "{result:?}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for target in [&socket, dir.path()] as [&std::path::Path; 2] {
        let result = in_time(client().download(url.as_str(), target).run()).await;
        assert!(matches!(result, Err(Error::Target(_))), "{result:?}");
    }
    assert!(socket.exists());
}

#[tokio::test]
async fn names_of_255_bytes_and_two_downloads_to_one_target_work() {
    let server = Server::start().await;
    let bytes = content(30_000_000);
    let url = stored(&server, &bytes).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ä".repeat(127) + "a");
    let received = Arc::new(Mutex::new(0));
    let seen = received.clone();
    let slow = builder().rate_limit(3_000_000).build().unwrap();
    let running = slow.download(url.as_str(), &path).on_event(move |event| {
        if let Event::Progress(progress) = event {
            *seen.lock() = progress.acknowledged;
        }
    });
    let running = tokio::spawn(running.run());
    while *received.lock() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    in_time(client().download(url.as_str(), &path).run())
        .await
        .unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert!(!running.is_finished());
    in_time(running).await.unwrap().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(entries(&dir).len(), 1);
}

/// A server whose responses to GET and HEAD are these; neither has a length of its own.
async fn answering(
    get: (u16, &'static [(&'static str, &'static str)], &'static str),
    head: &'static [(&'static str, &'static str)],
) -> Server {
    Server::with(
        |_| {},
        move |request| {
            let (status, fields, body) = get;
            Some(match request.method().as_str() {
                "HEAD" => response(200, head),
                _ => response(status, fields).map(|_| body),
            })
        },
    )
    .await
}

#[tokio::test]
async fn only_the_whole_file_as_it_is_counts_as_downloaded() {
    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
    const LENGTH: (&str, &str) = ("content-length", "10");
    const UPLOAD: &[(&str, &str)] = &[("upload-offset", "10"), ("upload-length", "10")];
    const UNFINISHED: &[(&str, &str)] = &[("upload-offset", "5"), ("upload-length", "10")];
    const DEFERRED: &[(&str, &str)] = &[("upload-offset", "5"), ("upload-defer-length", "1")];
    const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
    const GZIP: (&str, &str) = ("content-encoding", "gzip");
    let whole = "0123456789";
    for (name, get, head, is_whole) in [
        ("whole", (200, &[CHUNKED][..], whole), &[LENGTH][..], true),
        ("no length anywhere", (200, &[CHUNKED], whole), &[], true),
        ("short", (200, &[CHUNKED], "01234"), &[LENGTH], false),
        ("long", (200, &[CHUNKED], "0123456789+"), &[LENGTH], false),
        ("short upload", (200, &[CHUNKED], "01234"), UPLOAD, false),
        ("unfinished", (200, &[TUS], "01234"), UNFINISHED, false),
        ("deferred", (200, &[TUS], "01234"), DEFERRED, false),
        ("finished", (200, &[TUS], whole), UPLOAD, true),
        ("empty", (204, &[TUS], ""), UPLOAD, false),
        ("compressed", (200, &[GZIP], whole), &[], false),
        (
            "a range of unknown length",
            (206, &[("content-range", "bytes 0-9/*"), CHUNKED], whole),
            &[],
            false,
        ),
        (
            "a range, and the length by HEAD",
            (206, &[("content-range", "bytes 0-9/*"), CHUNKED], whole),
            &[LENGTH],
            true,
        ),
        (
            "more than the range",
            (206, &[("content-range", "bytes 0-4/5"), CHUNKED], whole),
            &[],
            false,
        ),
    ] {
        let server = answering(get, head).await;
        let policy = landfall_client::RetryPolicy::default()
            .with_delays(Duration::ZERO, Duration::ZERO)
            .with_max_attempts(2);
        let client = builder().retry(policy).build().unwrap();
        for parallel in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let download = client.download(server.endpoint(), path_of(&dir));
            let result = in_time(download.parallel(parallel).run()).await;
            assert_eq!(result.is_ok(), is_whole, "{name}: {result:?}");
            assert_eq!(path_of(&dir).exists(), is_whole, "{name}");
        }
        let memory = Memory::default();
        let result = in_time(client.download_to(server.endpoint(), memory.clone()).run()).await;
        assert_eq!(result.is_ok(), is_whole, "{name}: {result:?}");
        assert!(whole.as_bytes().starts_with(&memory.0.lock()), "{name}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_needs_a_length() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for (head, is_whole) in [
        ("Content-Length: 1000\r\n", false),
        ("", false),
        ("Content-Length: 500\r\n", true),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                let answer = match request.starts_with(b"HEAD") {
                    true => format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n"),
                    false => format!(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
                        "x".repeat(500)
                    ),
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let policy = landfall_client::RetryPolicy::default().with_max_attempts(2);
        let client = builder().retry(policy).build().unwrap();
        let result = in_time(
            client
                .download(format!("http://{address}/a"), path_of(&dir))
                .run(),
        )
        .await;
        assert_eq!(result.is_ok(), is_whole, "{head:?} {result:?}");
        task.abort();
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start_again() {
    let server = Server::with(|_| {}, |_| Some(response(200, &[]).map(|_| "whole"))).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let done = in_time(
        client()
            .download(server.endpoint(), &path)
            .parallel(3)
            .run(),
    )
    .await;
    assert_eq!(done.unwrap().length, 5);
    assert_eq!(std::fs::read(&path).unwrap(), b"whole");
}
