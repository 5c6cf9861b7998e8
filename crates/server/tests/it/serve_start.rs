//! Starting: start-up lines, routes besides uploads, and errors.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::serve_harness::{
    Client, Landfall, MIB, Request, URL_LINE, content, eventually, id_of, install, path_of,
    program, remove_settings, run,
};

/// A line without the time before it, `2026/11/20 08:46:14.161706`.
fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_at_checked(26).unwrap_or(("", line));
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000/00/00 00:00:00.000000", "{line}");
    rest.strip_prefix(' ').unwrap()
}

#[test]
fn the_start_says_where_files_go_and_who_may_do_what() {
    let server = Landfall::start(&[]);
    let dir = std::fs::canonicalize(server.dir()).unwrap();
    let lines = server.lines();
    let lines: Vec<&str> = lines.iter().map(|line| without_time(line)).collect();
    assert_eq!(
        lines,
        [
            &format!("Landfall {}", env!("CARGO_PKG_VERSION")),
            &format!(
                "Using '{}' as directory storage. A file is named ID, its description ID.info.",
                dir.display()
            ),
            "Anyone may upload; anyone with the URL of an upload may read and delete it. See landfall help \
             grants, and help hooks.",
            "Using 127.0.0.1:0 as address to listen. Metrics are at /metrics. Dashboard: off; --admin-key turns it \
             on.",
            &format!("Upload page: http://{}/", server.address()),
            &format!("{URL_LINE}http://{}/files/", server.address()),
        ]
    );

    for (args, line) in [
        (
            &["-max-size", "100MiB"][..],
            "Using 105 MB as maximum size.",
        ),
        (
            &["-file-names", "{date}/{id}"],
            "A file is named {date}/{id}, its description ID.info.",
        ),
        (
            &["-require-grant", "-disable-download"],
            "Uploads need a token of a grant; anyone with the URL of an upload may delete it; grants are at /uploadjobs, \
             authenticated by API keys (landfall keys).",
        ),
        (
            &[
                "-hooks-http=http://127.0.0.1:1",
                "-hooks-enabled-events=pre-create,pre-access",
            ],
            "The hook pre-create decides who may upload; the hook pre-access decides about later requests.",
        ),
    ] {
        Landfall::start(args).says(line);
    }
}

#[test]
fn the_url_that_is_printed_takes_uploads() {
    let server = Landfall::start(&["-base-path", "/api/v1/up"]);
    let url = server.says(URL_LINE);
    let path = path_of(url.split_once(URL_LINE).unwrap().1);
    assert_eq!(path, "/api/v1/up/");
    let mut client = server.client();
    for path in ["/api/v1/up/", "/api/v1/up"] {
        let answer = client.ask(Request::new("POST", path).with("Upload-Length", 5));
        let upload = answer.created();
        assert!(upload.starts_with("/api/v1/up/"), "{upload}");
        assert_eq!(client.patch(&upload, 0, b"hello").status, 204);
    }
}

#[test]
fn the_default_host_means_every_address_of_both_ip_versions() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["-port", "0", "-upload-dir"]).arg(dir.path());
    let server = Landfall::spawn(command, dir.path());
    let port = server.address().port();
    let v4 = Client::connect(([127, 0, 0, 1], port).into()).ask(Request::get("/healthz"));
    assert_eq!(v4.status, 200);
    if TcpListener::bind("[::1]:0").is_ok() {
        assert!(server.address().is_ipv6(), "{}", server.address());
        let v6 = Client::connect(format!("[::1]:{port}").parse().unwrap());
        let mut v6 = v6;
        assert_eq!(v6.ask(Request::get("/healthz")).status, 200);
    }
}

#[test]
fn start_up_lines_can_be_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let port = landfall_test_services::free_port();
    let mut command = program();
    command
        .args(["-host", "127.0.0.1", "-port", &port.to_string()])
        .args(["-show-startup-logs=false", "-upload-dir"])
        .arg(dir.path());
    let server = Landfall::launch(command, dir.path());
    eventually("it doesn't start", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.ask(Request::get("/readyz")).status, 200);
    client.upload(b"hello");
    assert_eq!(server.log(), "");
}

#[test]
fn json_logs_are_one_object_a_line_with_the_event_under_msg() {
    let server = Landfall::start(&["-log-format", "json", "-log-level", "debug"]);
    let mut client = server.client();
    let request = Request::post()
        .with("Upload-Length", 7)
        .with("X-Request-ID", "trace \"7\"");
    let path = client.ask(request).created();
    assert_eq!(client.head("/files/unknown").status, 404);
    server.says("ResponseOutgoing");
    let lines = server.lines();
    let lines: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for line in &lines {
        for key in ["time", "level", "msg"] {
            assert!(line[key].is_string(), "{line}");
        }
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }
    let url = format!("{URL_LINE}http://{}/files/", server.address());
    assert!(lines.iter().any(|line| line["msg"] == url.as_str()));
    let created = lines
        .iter()
        .find(|line| line["msg"] == "UploadCreated")
        .unwrap();
    assert_eq!(created["requestId"], "trace \"7\"");
    assert_eq!(created["id"], id_of(&path));
    assert_eq!(created["size"], 7, "{created}");
    assert_eq!(created["level"], "DEBUG");
}

#[test]
fn text_logs_name_the_request_and_the_upload() {
    let server = Landfall::start(&["-verbose"]);
    let request = Request::post()
        .with("Upload-Length", 7)
        .with("X-Request-ID", "a b");
    let path = server.client().ask(request).created();
    let line = server.says("event=UploadCreated");
    let line = without_time(&line);
    assert!(
        line.starts_with("level=DEBUG event=UploadCreated "),
        "{line}"
    );
    let id = format!(" id={} ", id_of(&path));
    assert!(line.contains(&id), "{line}");
    assert!(line.contains(" requestId=\"a b\""), "{line}");
    let line = server.says("event=ResponseOutgoing");
    assert!(line.contains(" method=POST "), "{line}");
    assert!(line.contains(" status=201"), "{line}");
}

#[test]
fn debug_logs_contain_the_lifecycle_of_uploads() {
    let server = Landfall::start(&[
        "-verbose",
        "-expire-finished",
        "1h",
        "-sweep-interval",
        "50ms",
    ]);
    let mut client = server.client();
    let path = client.create(5);
    let mut hung = server.client();
    hung.begin(Request::patch(&path, 0), 5);
    hung.send("he");
    client.reaches(&path, 2);
    assert_eq!(client.patch(&path, 2, b"llo").status, 204);
    let gone = client.create(5);
    assert_eq!(client.ask(Request::new("DELETE", &gone)).status, 204);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for file in [
        server.file(&path),
        server.file(&path).with_extension("info"),
    ] {
        let file = std::fs::File::options().append(true).open(file).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    server.says("event=SweepFinished");
    let (id, gone) = (id_of(&path), id_of(&gone));
    for (level, event, id) in [
        ("DEBUG", "UploadCreated", id),
        ("DEBUG", "UploadInterrupted", id),
        ("INFO", "UploadExpired", id),
        ("DEBUG", "UploadCreated", gone),
        ("DEBUG", "UploadTerminated", gone),
    ] {
        let lines = server.lines();
        let wanted = [
            format!("level={level} event={event} "),
            format!(" id={id} "),
        ];
        assert!(
            lines
                .iter()
                .any(|line| wanted.iter().all(|part| line.contains(part))),
            "no {wanted:?}: {lines:#?}"
        );
    }
}

#[test]
fn files_have_names_that_people_recognize() {
    let server = Landfall::start(&["-file-names={meta:album}/{filename}"]);
    let mut client = server.client();
    let mut create = |metadata: &str| {
        let request = Request::post().with("Upload-Metadata", metadata);
        client.ask(request.with("Upload-Length", 5))
    };
    // "../x" and "a b.info", which is the end of descriptions.
    let path = create("album Li4veA==,filename YSBiLmluZm8=").created();
    assert_eq!(server.client().patch(&path, 0, b"hello").status, 204);
    let file = server.dir().join("__x_/_a b.info_");
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
    let read = server.client().ask(Request::new("GET", &path));
    assert_eq!(read.body, b"hello");
    // Never replaced.
    assert_eq!(create("album Li4veA==,filename YSBiLmluZm8=").status, 409);
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
    assert_eq!(
        server.client().ask(Request::new("DELETE", &path)).status,
        204
    );
    assert!(!file.exists());
    create("album Li4veA==,filename YSBiLmluZm8=").created();
}

/// By default, a finished upload is one line.
#[test]
fn a_finished_upload_is_one_line() {
    let server = Landfall::start(&["-behind-proxy"]);
    let lines = server.lines().len();
    let name = "filename YSBiLnBkZg==";
    let request = Request::post().with("Upload-Metadata", name);
    let path = server
        .client()
        .ask(request.with("Upload-Length", 5))
        .created();
    let request = Request::patch(&path, 0).with("X-Forwarded-For", "192.0.2.7");
    assert_eq!(server.client().ask(request.body(b"hello")).status, 204);
    let line = server.says("event=UploadFinished");
    let id = id_of(&path);
    let shown = format!("INFO event=UploadFinished id={id} size=5 name=\"a b.pdf\" seconds=");
    assert!(line.contains(&shown), "{line}");
    assert!(line.ends_with(" client=192.0.2.7"), "{line}");
    assert_eq!(server.lines().len(), lines + 1, "{}", server.log());
}

/// A program that started the server and reads only its first lines, or a stopped terminal.
#[test]
fn uploads_do_not_wait_for_a_log_that_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    // Not the time of a disk that syncs 1,500 files.
    command
        .args([
            "-host=127.0.0.1",
            "-port=0",
            "--durability=none",
            "-upload-dir",
        ])
        .arg(dir.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let line = log.find(|line| line.contains(URL_LINE)).unwrap();
    let port = line
        .rsplit(':')
        .next()
        .unwrap()
        .trim_end_matches("/files/")
        .parse()
        .unwrap();
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    let began = Instant::now();
    // More than a pipe holds.
    for _ in 0..1500 {
        client.upload(b"hello");
    }
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    log.by_ref().take(400).for_each(drop);
    client.upload(b"hello");
    let dropped = log
        .find(|line| line.contains("lines were dropped"))
        .unwrap();
    assert!(
        dropped.contains(" level=WARN ") && !dropped.ends_with("lines=0"),
        "{dropped}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn requests_cannot_forge_log_lines() {
    let server = Landfall::start(&["-verbose"]);
    let path = "/files/a%0Alevel=ERROR%20event=Forged";
    let request = Request::new("HEAD", path).with("X-Request-ID", "x\" event=Forged \"");
    assert_eq!(server.client().ask(request).status, 404);
    server.says("ResponseOutgoing");
    for line in server.lines() {
        without_time(&line);
        assert!(!line.contains(" event=Forged \""), "{line}");
    }
}

#[test]
fn an_invalid_command_line_exits_with_2_and_a_reason() {
    for (args, words) in [
        (&["-no-such-flag"][..], "-no-such-flag"),
        (&["-port", "eight"], "eight"),
        (&["-max-size"], "-max-size"),
        (&["-hooks-plugin", "x"], "hooks-plugin"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let (code, out, err) = run(program().args(args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}

#[test]
fn a_port_in_use_exits_with_1_and_a_fix() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = program();
    command
        .args(["-host", "127.0.0.1", "-port", &port, "-upload-dir"])
        .arg(dir.path());
    let (code, _, err) = run(&mut command);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&format!("127.0.0.1:{port}")), "{err}");
    assert!(err.contains("another program uses the port"), "{err}");
    assert!(err.contains("choose one with --port"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn an_upload_directory_that_cannot_be_created_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let (code, _, err) = run(program().args(["-port", "0", "-upload-dir"]).arg(&path));
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(path.to_str().unwrap()), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn a_read_only_upload_directory_exits_with_1() {
    let (place, mut command) = program_for_anybody();
    let dir = place.path().join("uploads");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o555)).unwrap();
    command.args(["-port", "0", "-upload-dir"]).arg(&dir);
    let (code, _, err) = run(&mut command);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(dir.to_str().unwrap()), "{err}");
    assert!(err.to_lowercase().contains("permission denied"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

/// The program as an unprivileged user starts it, since nothing is forbidden to root; in a directory
/// that this user can reach.
pub(crate) fn program_for_anybody() -> (tempfile::TempDir, std::process::Command) {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = place.path().join("landfall");
    let original = Path::new(env!("CARGO_BIN_EXE_landfall"));
    install(original, &copy);
    let mut command = std::process::Command::new(copy);
    command.env_clear();
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    (place, command)
}

#[test]
fn the_upload_page_and_its_files_are_served_securely() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let page = client.ask(Request::get("/"));
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");

    let html = page.text();
    let mut names: Vec<String> = html
        .split('"')
        .filter_map(|text| text.strip_prefix("./_landfall/"))
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 2, "{html}");
    // And the modules that the scripts import.
    let mut at = 0;
    while at < names.len() {
        let path = format!("/_landfall/{}", names[at]);
        let file = client.ask(Request::get(&path));
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("X-Content-Type-Options"), Some("nosniff"));
        let kind = file.header("Content-Type").unwrap();
        let etag = file.header("ETag").unwrap();
        let again = client.ask(Request::get(&path).with("If-None-Match", etag));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        // Vendored files are bundles, which import nothing.
        if kind.starts_with("text/javascript") && !path.contains("/vendor/") {
            for import in file
                .text()
                .split(['"', '\''])
                .filter_map(|t| t.strip_prefix("./"))
            {
                if import.ends_with(".js") && !names.iter().any(|name| name == import) {
                    names.push(import.to_owned());
                }
            }
        }
        at += 1;
    }
    assert!(names.iter().any(|name| name.ends_with(".css")), "{names:?}");
    assert!(names.len() > 5, "{names:?}");
    assert_eq!(client.ask(Request::get("/_landfall/../x")).status, 404);
    assert_eq!(client.ask(Request::get("/elsewhere")).status, 404);
}

#[test]
fn the_upload_page_can_be_disabled() {
    let server = Landfall::start(&["-show-greeting=false"]);
    let mut client = server.client();
    let answer = client.ask(Request::get("/"));
    assert_eq!(
        (answer.status, &*answer.text()),
        (404, "404 page not found\n")
    );
    assert_eq!(client.ask(Request::get("/_landfall/app.js")).status, 404);
}

#[test]
fn the_base_path_can_be_the_root() {
    let server = Landfall::start(&["-base-path", "/"]);
    let mut client = server.client();
    let path = client
        .ask(Request::new("POST", "/").with("Upload-Length", 5))
        .created();
    assert_eq!(client.patch(&path, 0, b"hello").status, 204);
    client.holds(&path, b"hello");
    assert_eq!(client.ask(Request::get("/metrics")).status, 200);
    assert_eq!(client.ask(Request::get("/healthz")).status, 200);
}

#[test]
fn an_unknown_path_is_a_plain_404() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    for path in [
        "/filesystem",
        "/file",
        "/files/../metrics",
        "/.git/config",
        "//files/",
    ] {
        let answer = client.ask(Request::get(path));
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn metrics_have_the_names_of_tusd_and_count_requests() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let page = client.ask(Request::get("/metrics"));
    assert_eq!(
        page.header("Content-Type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let page = page.text();
    // All exist from the start, so that dashboards and alerts have no gaps.
    for name in [
        "tusd_requests_total{method=\"GET\"} ",
        "tusd_requests_total{method=\"HEAD\"} ",
        "tusd_requests_total{method=\"POST\"} ",
        "tusd_requests_total{method=\"PATCH\"} ",
        "tusd_requests_total{method=\"DELETE\"} ",
        "tusd_requests_total{method=\"OPTIONS\"} ",
        "tusd_bytes_received ",
        "tusd_uploads_created ",
        "tusd_uploads_finished ",
        "tusd_uploads_terminated ",
        "tusd_connections_open ",
        "landfall_bytes_sent_total ",
        "landfall_uploads_live ",
        "landfall_uploads_expired_total ",
        "landfall_takeovers_total ",
        "landfall_evictions_total ",
        "landfall_checksum_mismatches_total ",
        "landfall_timeouts_total{timer=\"body\"} ",
        "landfall_invalid_requests_total ",
        "landfall_build_info{version=\"",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_cpu_seconds_total ",
    ] {
        assert!(page.contains(&format!("\n{name}")), "no {name} in:\n{page}");
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let family = name.split('{').next().unwrap();
        assert!(page.contains(&format!("# TYPE {family} ")), "{line}");
    }

    let bytes = content(1, MIB);
    let kept = client.upload(&bytes);
    client.holds(&kept, &bytes);
    let gone = client.create(5);
    assert_eq!(client.patch(&gone, 0, b"hel").status, 204);
    assert_eq!(client.ask(Request::new("DELETE", &gone)).status, 204);
    assert_eq!(client.head("/files/unknown").status, 404);
    for (name, value) in [
        ("tusd_requests_total{method=\"POST\"}", 2.0),
        ("tusd_requests_total{method=\"PATCH\"}", 1.0),
        ("tusd_requests_total{method=\"GET\"}", 1.0),
        ("tusd_requests_total{method=\"HEAD\"}", 1.0),
        ("tusd_requests_total{method=\"DELETE\"}", 1.0),
        (
            "tusd_errors_total{status=\"404\",code=\"ERR_UPLOAD_NOT_FOUND\"}",
            1.0,
        ),
        ("tusd_bytes_received", (MIB + 3) as f64),
        ("tusd_uploads_created", 2.0),
        ("tusd_uploads_finished", 1.0),
        ("tusd_uploads_terminated", 1.0),
        ("landfall_bytes_sent_total", MIB as f64),
        ("landfall_uploads_live", 0.0),
    ] {
        eventually(&format!("{name} isn't {value}"), || {
            server.metric(name) == value
        });
    }
    assert!(server.metric("tusd_connections_open") >= 1.0);

    // A wrong checksum in a request that takes over, and what is no request.
    let path = client.create(10);
    let mut hung = server.client();
    hung.begin(Request::patch(&path, 0), 10);
    hung.send(b"hello");
    server.client().reaches(&path, 5);
    let wrong = Request::patch(&path, 5).with("Upload-Checksum", "crc32 AAAAAA==");
    client
        .ask(wrong.body(b"world"))
        .refuses(460, "ERR_CHECKSUM_MISMATCH");
    hung.answer().refuses(423, "ERR_UPLOAD_INTERRUPTED");
    let mut other = server.client();
    other.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(other.answer().status, 400);
    for name in ["takeovers", "checksum_mismatches", "invalid_requests"] {
        let name = format!("landfall_{name}_total");
        eventually(&format!("{name} isn't 1"), || server.metric(&name) == 1.0);
    }
}

#[test]
fn metrics_can_be_moved_and_disabled() {
    let server = Landfall::start(&["-metrics-path", "/internal/m"]);
    let mut client = server.client();
    assert_eq!(client.ask(Request::get("/internal/m")).status, 200);
    assert_eq!(client.ask(Request::get("/metrics")).status, 404);
    assert!(server.log().contains("Metrics are at /internal/m."));
    let server = Landfall::start(&["-expose-metrics", "false"]);
    assert_eq!(server.client().ask(Request::get("/metrics")).status, 404);
    assert!(!server.log().contains("metrics path"));
}

#[test]
fn readiness_follows_the_upload_directory_and_health_does_not() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, away) = (parent.path().join("up"), parent.path().join("away"));
    let server = Landfall::on(&dir, &[]);
    let mut client = server.client();
    let mut probe = |path| {
        // The check of the directory may be that old.
        std::thread::sleep(Duration::from_millis(50));
        client.ask(Request::get(path)).status
    };
    assert_eq!((probe("/healthz"), probe("/readyz")), (200, 200));
    std::fs::rename(&dir, &away).unwrap();
    assert_eq!((probe("/healthz"), probe("/readyz")), (200, 503));
    // Another directory in its place, as when a disk is not mounted: uploads would be stored in the wrong
    // place.
    std::fs::create_dir(&dir).unwrap();
    assert_eq!((probe("/healthz"), probe("/readyz")), (200, 503));
    std::fs::remove_dir(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    assert_eq!((probe("/healthz"), probe("/readyz")), (200, 200));
}

#[test]
fn files_and_directories_have_the_configured_permissions() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/dir");
    let mut command = std::process::Command::new("sh");
    remove_settings(&mut command);
    command
        .args(["-c", "umask 027; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_landfall"))
        .args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"])
        .arg(&dir)
        .args(["-dir-perms", "777", "-file-perms", "0666"]);
    let server = Landfall::spawn(command, &dir);
    let path = server.client().create(5);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let data = server.file(&path);
    assert_eq!(mode(&dir), 0o750);
    assert_eq!(mode(&data), 0o640);
    assert_eq!(mode(&data.with_extension("info")), 0o640);
}

#[test]
fn health_requests_the_server_with_the_same_settings() {
    let health = |args: &[&str]| run(program().arg("health").args(args));
    let server = Landfall::start(&[]);
    let port = server.address().port().to_string();
    for (args, text) in [
        (&["-port", &port][..], "ok\n"),
        (&["-host=127.0.0.1", "-port", &port], "ok\n"),
        (&["--ready", "-port", &port], "ready\n"),
    ] {
        assert_eq!(
            health(args),
            (Some(0), text.to_owned(), String::new()),
            "{args:?}"
        );
    }
    drop(server);
    let (code, out, error) = health(&["-port", &port]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        error.contains(&format!(
            "no response from 127.0.0.1:{port}: Connection refused"
        )),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let socket = socket.to_str().unwrap();
    let mut command = program();
    command
        .args(["-unix-sock", socket, "-upload-dir"])
        .arg(dir.path().join("data"));
    let mut server = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("no health over the socket", || {
        health(&["-unix-sock", socket]).0 == Some(0)
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(health(&["-unix-sock", socket]).0, Some(1));
}

#[test]
fn health_limits_the_whole_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let slow = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let response = b"HTTP/1.1 200 OK\r\n\r\nok\n";
        for byte in response {
            // The client has gone.
            if client.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let began = Instant::now();
    let (code, _, error) = run(program().args(["health", "-port", &port]));
    let took = began.elapsed().as_secs();
    assert!((5..10).contains(&took), "{took} s");
    assert_eq!(code, Some(1));
    let expected = format!("no response from 127.0.0.1:{port}: timed out");
    assert!(error.contains(&expected), "{error}");
    slow.join().unwrap();
}

#[test]
fn the_version_and_the_help_exit_with_0() {
    for args in [["version"], ["-version"], ["--help"], ["-h"]] {
        let (code, out, err) = run(program().args(args));
        assert_eq!((code, &*err), (Some(0), ""), "{args:?}");
        assert!(
            out.to_lowercase().contains("landfall") || out.contains("Version"),
            "{out}"
        );
    }
}
