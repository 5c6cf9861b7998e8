//! Requests that only tusd accepts, with `--compat tusd` and without.

use std::{io::Read as _, net::Shutdown};

use crate::serve_harness::{Landfall, Request, base64, eventually, path_of};

/// Creates an upload with these header lines; returns the status and the metadata of HEAD.
fn create(server: &Landfall, lines: &str) -> (u16, Option<String>) {
    let mut client = server.client();
    client.send(format!(
        "POST /files/ HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 1\r\n{lines}\r\n"
    ));
    let answer = client.answer();
    let metadata = (answer.status == 201).then(|| {
        let path = path_of(answer.header("Location").unwrap());
        let head = server.client().head(&path);
        head.header("Upload-Metadata").unwrap_or("").to_owned()
    });
    (answer.status, metadata)
}

#[test]
fn malformed_metadata_is_rejected_or_dropped_as_by_tusd() {
    let strict = Landfall::start(&[]);
    let lenient = Landfall::start(&["-compat", "tusd"]);
    for (lines, kept) in [
        ("Upload-Metadata: a YQ==,\r\n", "a YQ=="),
        ("Upload-Metadata: a YQ==,b %%\r\n", "a YQ=="),
        ("Upload-Metadata: a YQ==,a Yg==\r\n", "a Yg=="),
        ("Upload-Metadata: a YQ==,b c d\r\n", "a YQ=="),
        ("Upload-Metadata: filename café.txt,a YQ==\r\n", "a YQ=="),
        ("Upload-Metadata: ключ YQ==,a YQ==\r\n", "a YQ=="),
        ("Upload-Metadata: café\r\n", ""),
        (
            "Upload-Metadata: a YQ==\r\nUpload-Metadata: b YQ==\r\n",
            "a YQ==",
        ),
    ] {
        assert_eq!(create(&strict, lines), (400, None), "{lines}");
        let taken = create(&lenient, lines);
        assert_eq!(taken, (201, Some(kept.to_owned())), "{lines}");
    }
    let good = "Upload-Metadata: empty , b YQ==\r\n";
    for server in [&strict, &lenient] {
        let taken = create(server, good);
        assert_eq!(taken, (201, Some("empty , b YQ==".into())));
    }
    // The bounds stay.
    let long = format!("Upload-Metadata: a {}\r\n", "YWFh".repeat(5000));
    assert_eq!(create(&lenient, &long).0, 400);
}

/// Its checksum is that of the whole file, in hexadecimal, and it sends it with each part.
#[test]
fn tus_php_uploads_where_checksums_are_ignored() {
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let checksum = format!("sha256 {}", base64(sha256.as_bytes()));
    let part = |path: &str, offset: u64, bytes: &[u8]| {
        Request::patch(path, offset)
            .with("Upload-Checksum", &checksum)
            .body(bytes)
    };
    for args in [&["-compat=tusd"][..], &["-disable-checksum"]] {
        let server = Landfall::start(args);
        let mut client = server.client();
        let options = client.ask(Request::new("OPTIONS", "/files/"));
        assert!(
            !options
                .header("Tus-Extension")
                .unwrap()
                .contains("checksum")
        );
        assert_eq!(options.header("Tus-Checksum-Algorithm"), None);
        let path = client.create(5);
        assert_eq!(client.ask(part(&path, 0, b"hel")).status, 204, "{args:?}");
        assert_eq!(client.ask(part(&path, 3, b"lo")).status, 204, "{args:?}");
        client.holds(&path, b"hello");
    }
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let path = client.create(5);
    let answer = client.ask(part(&path, 0, b"hel"));
    answer.refuses(400, "ERR_INVALID_CHECKSUM");
    let advice = "the digest of sha256 is in hexadecimal; send the Base64 of its 32 bytes instead";
    assert!(answer.text().contains(advice), "{}", answer.text());
    // The operator can do something about it.
    let line = server.says("rejected what a client sends");
    assert!(line.contains("level=WARN"), "{line}");
    assert!(
        line.contains(advice) && line.contains("setting=--disable-checksum"),
        "{line}"
    );
    assert_eq!(client.ask(part(&path, 0, b"hel")).status, 400);
    let lines = server.lines();
    let told = lines
        .iter()
        .filter(|line| line.contains("rejected what a client sends"));
    assert_eq!(told.count(), 1);
}

/// curl with both headers, as tusc.sh calls it.
#[test]
fn both_lengths_are_accepted_where_no_proxy_is_trusted() {
    let patch = |path: &str| {
        format!(
            "PATCH {path} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
             Content-Type: application/offset+octet-stream\r\nContent-Length: 5\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
    };
    for args in [&["-compat=tusd"][..], &[]] {
        let server = Landfall::start(args);
        let mut client = server.client();
        let path = client.create(5);
        client.send(patch(&path));
        let answer = client.answer();
        assert_eq!((answer.status, answer.offset()), (204, 5));
        assert_eq!(answer.header("Connection"), Some("close"));
        client.is_closed();
        server.client().holds(&path, b"hello");
    }
    let server = Landfall::start(&["-behind-proxy"]);
    let mut client = server.client();
    let path = client.create(5);
    client.send(patch(&path));
    assert_eq!(client.answer().status, 400);
    assert_eq!(server.client().offset(&path), 0);
}

/// Shell scripts cut the URL out with the name in this case.
#[test]
fn names_are_in_title_case_on_http_1_1() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    client.send(
        "POST /files/ HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n\r\n",
    );
    let created = client.answer();
    let path = path_of(created.header("Location").unwrap());
    let head = client.ask(Request::new("HEAD", &path));
    let rejected = client.ask(Request::new("HEAD", &path).with("Content-Length", "x"));
    for (answer, names) in [
        (created, ["Location", "Tus-Resumable", "Content-Length"]),
        (head, ["Upload-Offset", "Upload-Length", "Cache-Control"]),
        (rejected, ["Content-Type", "Content-Length", "Connection"]),
    ] {
        for name in names {
            let has = answer.headers.iter().any(|(found, _)| found == name);
            assert!(has, "{name}: {answer:?}");
        }
    }
}

#[test]
fn a_final_upload_has_thousands_of_parts_with_absolute_urls() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let part = |client: &mut crate::serve_harness::Client| {
        let request = Request::post()
            .with("Upload-Length", 0)
            .with("Upload-Concat", "partial");
        let url = client.ask(request).header("Location").unwrap().to_owned();
        assert!(url.starts_with("http://"), "{url}");
        url
    };
    let urls: Vec<_> = (0..2000).map(|_| part(&mut client)).collect();
    let concat = format!("final;{}", urls.join(" "));
    assert!(concat.len() > 100_000);
    let request = Request::post().with("Upload-Concat", &concat);
    assert_eq!(client.ask(request).status, 201);
}

#[test]
fn what_the_protocol_forbids_and_tusd_takes_is_accepted() {
    let (strict, lenient) = (Landfall::start(&[]), Landfall::start(&["-compat=tusd"]));
    for (server, signed, encoded, regular) in [(&strict, 400, 415, 400), (&lenient, 201, 204, 201)]
    {
        let mut client = server.client();
        let request = Request::post().with("Upload-Length", "+5");
        assert_eq!(client.ask(request).status, signed);
        let path = client.create(5);
        let gzip = Request::patch(&path, 0).with("Content-Encoding", "gzip");
        assert_eq!(client.ask(gzip.body(b"hello")).status, encoded);
        // It is no encoding.
        let other = client.create(5);
        let identity = Request::patch(&other, 0).with("Content-Encoding", "identity");
        assert_eq!(client.ask(identity.body(b"world")).status, 204);
        let parts = [client.upload(b"hello"), other].join(" ");
        let concat = Request::post().with("Upload-Concat", format!("final;{parts}"));
        let joined = client.ask(concat.with("Upload-Defer-Length", 1));
        assert_eq!(joined.status, regular);
        if regular == 201 {
            client.holds(&path, b"hello");
            client.holds(&path_of(joined.header("Location").unwrap()), b"helloworld");
        }
    }
    // It waits for them, as for partial uploads.
    let mut client = lenient.client();
    let (first, second) = (client.create(5), client.upload(b"world"));
    let concat = format!("final;{first} {second}");
    let joined = client.ask(Request::post().with("Upload-Concat", concat));
    assert_eq!(joined.status, 201);
    assert_eq!(client.patch(&first, 0, b"hello").status, 204);
    let path = path_of(joined.header("Location").unwrap());
    eventually("the final upload is not complete", || {
        client.head(&path).header("Upload-Offset") == Some("10")
    });
    client.holds(&path, b"helloworld");
}

/// Requests, each with the lines that tusd logs of it.
const RECORDED: &str = include_str!("tusd-log.txt");

/// The lines of requests, from their level on.
fn request_lines(server: &Landfall) -> Vec<String> {
    let events = [
        "RequestIncoming",
        "UploadCreated",
        "ChunkWriteStart",
        "BodyReadError",
        "ChunkWriteComplete",
        "UploadInterrupted",
        "UploadFinished",
        "UploadTerminated",
        "ResponseOutgoing",
        "InternalServerError",
    ];
    let lines = server.lines().into_iter().filter_map(|line| {
        let line = &line[line.find("level=")?..];
        let event = line.split_once("event=")?.1.split(' ').next()?;
        events.contains(&event).then(|| line.to_owned())
    });
    lines.collect()
}

/// Sends a request of the recording; returns the id of the upload that it creates.
fn send_recorded(server: &Landfall, request: &str) -> Option<String> {
    let (head, body) = request.split_once(" | ").unwrap_or((request, ""));
    let mut quotes = 0;
    let mut words = head.split(|c| {
        quotes += usize::from(c == '"');
        c == ' ' && quotes % 2 == 0
    });
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let fields: Vec<_> = words
        .map(|word| word.split_once('=').unwrap())
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect();
    let has = |wanted: &str| fields.iter().any(|(name, _)| *name == wanted);
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        server.address()
    );
    for (name, value) in &fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !has("Tus-Resumable") {
        text.push_str("Tus-Resumable: 1.0.0\r\n");
    }
    if has("Transfer-Encoding") {
        let length = body.len();
        text.push_str(&format!("\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"));
    } else if has("Content-Length") {
        text.push_str(&format!("\r\n{body}"));
    } else {
        let length = body.len();
        text.push_str(&format!("Content-Length: {length}\r\n\r\n{body}"));
    }
    let mut client = server.client();
    client.send(text);
    if has("Content-Length") {
        // The rest does not come.
        client.stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    client.stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "))?;
    location.rsplit('/').next().map(str::to_owned)
}

/// The texts of errors are those of tusd; some then say what to send instead.
fn without_hint(line: &str) -> String {
    let hint_at = line.find("body=\"ERR_").and_then(|at| {
        let text_at = at + line[at..].find(": ")? + 2;
        Some(text_at + line[text_at..].find(": ")?)
    });
    hint_at.map_or_else(|| line.to_owned(), |at| format!("{}\\n\"", &line[..at]))
}

/// Rules of logs that were written for tusd match whole lines.
#[test]
fn requests_are_logged_as_by_tusd() {
    for more in ["-verbose", "-verbose=false"] {
        let server = Landfall::start(&["-compat=tusd", "-max-size=1000", more]);
        let mut names = vec![("HOST".to_owned(), server.address().to_string())];
        let mut logged = 0;
        for block in RECORDED.split("\n> ").skip(1) {
            let (request, recorded) = block.split_once('\n').unwrap();
            let (name, request) = match request.split_once(": ") {
                Some((name, request)) if name.len() == 1 => (Some(name), request),
                _ => (None, request),
            };
            let filled = names.iter().fold(request.to_owned(), |text, (name, id)| {
                text.replace(name, &format!("/files/{id}"))
            });
            let created = send_recorded(&server, &filled);
            if let (Some(name), Some(id)) = (name, created) {
                names.push((format!("{{{name}}}"), id));
            }
            let mut found = Vec::new();
            eventually("the response is not logged", || {
                found = request_lines(&server).split_off(logged);
                found
                    .iter()
                    .any(|line| line.contains("event=ResponseOutgoing"))
            });
            logged += found.len();
            let recorded: Vec<_> = recorded.lines().filter(|line| !line.is_empty()).collect();
            let found: Vec<_> = found
                .iter()
                .map(|line| {
                    names.iter().fold(line.clone(), |text, (name, value)| {
                        text.replace(value, name)
                    })
                })
                .enumerate()
                // tusd looks at the id after the headers, so it has none of an invalid request.
                .map(|(at, line)| match recorded.get(at) {
                    Some(one) if !one.contains(" id=") && one.contains(" status=4") => {
                        let words = line.split(' ').filter(|word| !word.starts_with("id="));
                        words.collect::<Vec<_>>().join(" ")
                    }
                    _ => line,
                })
                .map(|line| without_hint(&line))
                .collect();
            assert_eq!(found, recorded, "{request}");
        }
        assert_eq!(names.len(), 10);
    }
}
