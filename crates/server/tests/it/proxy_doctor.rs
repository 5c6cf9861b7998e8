//! `landfall doctor proxy` on a server without a proxy, and behind real ones. `landfall-cli` has to be compiled, too.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use landfall_test_services::ReverseProxy;
use rustix::process::{Pid, Signal, kill_process};

use crate::grants_harness::{Caller, json};
use crate::serve_harness::{Landfall, eventually, program, run};

/// A smaller body than the default, but larger than nginx's limit.
const SIZE: &str = "4MiB";

/// The findings in their order: severity, check, text.
struct Findings(Vec<(String, String, String)>);

impl Findings {
    #[track_caller]
    fn severity(&self, check: &str) -> &str {
        &self.find(check).0
    }

    #[track_caller]
    fn text(&self, check: &str) -> &str {
        &self.find(check).2
    }

    #[track_caller]
    fn find(&self, check: &str) -> &(String, String, String) {
        let found = self.0.iter().find(|(_, name, _)| name == check);
        found.unwrap_or_else(|| panic!("no {check:?} in {:#?}", self.0))
    }

    /// Returns the checks of a severity.
    fn of(&self, severity: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(found, ..)| found == severity);
        found.map(|(_, check, _)| check.as_str()).collect()
    }

    /// Checks that a finding contains each of these texts.
    #[track_caller]
    fn has(&self, severity: &str, check: &str, parts: &[&str]) {
        let (found, _, text) = self.find(check);
        assert_eq!(found, severity, "{check}: {text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}

fn command(url: &str) -> Command {
    let mut command = program();
    command.args(["doctor", "proxy", url, "--size", SIZE]);
    command
}

#[track_caller]
fn doctor(command: &mut Command) -> (i32, Findings) {
    let (code, printed, errors) = run(command);
    assert_eq!(errors, "", "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    // The last line is the verdict.
    let findings = lines[..lines.len() - 1].iter().map(|line| {
        let (severity, rest) = line.split_at(6);
        let (check, text) = rest.split_at(23);
        (severity.trim().into(), check.trim().into(), text.into())
    });
    // Shown if the test fails.
    eprintln!("{printed}");
    (code.unwrap(), Findings(findings.collect()))
}

#[track_caller]
fn examine(url: &str) -> (i32, Findings) {
    doctor(&mut command(url))
}

/// Returns the names of the files of uploads.
fn remaining(server: &Landfall) -> Vec<String> {
    let entries = std::fs::read_dir(server.dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".landfall").collect()
}

#[track_caller]
fn is_empty(server: &Landfall) {
    assert_eq!(remaining(server), Vec::<String>::new());
}

/// Checks that there are uploads, and that the report has them.
#[track_caller]
fn are_named(server: &Landfall, found: &Findings) {
    let remaining = remaining(server);
    assert!(!remaining.is_empty());
    for name in remaining {
        found.has("warn", "clean-up", &[name.trim_end_matches(".info")]);
    }
}

/// The block of docs/reverse-proxy.md in this language, with the address of a server.
fn documented(language: &str, server: &Landfall) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reverse-proxy.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    assert!(block.contains("127.0.0.1:8080"));
    block.replace("127.0.0.1:8080", &server.address().to_string())
}

/// A certificate for `localhost`, and with its key.
fn certificate(dir: &Path) -> (String, String) {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test \
         -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost \
         -keyout key.pem -out cert.pem && cat cert.pem key.pem >both.pem";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .output();
    let made = made.unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let path = |name| dir.join(name).display().to_string();
    (path("cert.pem"), path("both.pem"))
}

fn nginx_location(server: &Landfall, more: &str) -> ReverseProxy {
    let address = server.address();
    ReverseProxy::nginx(&format!(
        "server {{ listen 127.0.0.1:PORT; location / {{\n proxy_pass http://{address};\n {more}\n}} }}"
    ))
}

/// All that the documentation's nginx has, but TLS.
const WELL_CONFIGURED: &str = "proxy_http_version 1.1; proxy_request_buffering off; client_max_body_size 0; \
     proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;";

/// `HAProxy` with no settings but those that it requires.
fn haproxy(server: SocketAddr) -> ReverseProxy {
    ReverseProxy::haproxy(&format!(
        "defaults\n mode http\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n\
         http-reuse never\nfrontend uploads\n bind 127.0.0.1:PORT\n default_backend landfall\n\
         backend landfall\n server one {server}\n"
    ))
}

fn url_of(proxy: &ReverseProxy) -> String {
    format!("http://127.0.0.1:{}/files/", proxy.port())
}

#[test]
fn a_server_without_a_proxy_passes() {
    let admin_key = "0123456789abcdef";
    let server = Landfall::start(&["-expose-metrics=false", "-admin-key", admin_key]);
    let url = format!("http://{}/files/", server.address());
    let (code, found) = doctor(command(&url).args(["--slow", "1s"]));
    assert_eq!(
        (code, found.of("FAIL"), found.of("warn")),
        (0, vec![], vec![])
    );
    for check in [
        "OPTIONS",
        "creation",
        "Location",
        "HEAD",
        "fields",
        "PATCH",
        "offset",
        "DELETE",
        "request buffering",
        "Expect",
        "body size",
        "IETF draft",
        "connection",
        "pause",
        "duration",
    ] {
        assert_eq!(found.severity(check), "ok", "{check}");
    }
    is_empty(&server);
    let listed = Caller::new(&server, admin_key).ask("GET", "/admin/api/uploads");
    assert_eq!(json(&listed)["uploads"], serde_json::json!([]));
    // Nor does an application get its uploads as finished files.
    assert!(!server.log().contains("UploadFinished"), "{}", server.log());
}

#[test]
fn nginx_with_its_defaults_buffers_and_limits_bodies() {
    let server = Landfall::start(&[]);
    let (code, found) = examine(&url_of(&nginx_location(&server, "")));
    assert_eq!(code, 1);
    assert_eq!(found.of("FAIL"), ["request buffering", "body size"]);
    let buffering = ["of 262144 bytes", "proxy_request_buffering off"];
    found.has("FAIL", "request buffering", &buffering);
    let size = ["413", "nginx", "client_max_body_size 0"];
    found.has("FAIL", "body size", &size);
    is_empty(&server);
}

#[test]
fn a_location_of_another_origin_is_reported() {
    let directives = format!("proxy_redirect off; {WELL_CONFIGURED}");
    let server = Landfall::start(&[]);
    let (code, found) = examine(&url_of(&nginx_location(&server, &directives)));
    assert_eq!((code, found.of("FAIL")), (1, vec!["Location"]));
    let location = format!("http://{}/files/", server.address());
    let parts = [&*location, "X-Forwarded-Proto", "--behind-proxy"];
    found.has("FAIL", "Location", &parts);
    is_empty(&server);

    let server = Landfall::start(&["-behind-proxy"]);
    let (code, found) = examine(&url_of(&nginx_location(&server, &directives)));
    assert_eq!((code, found.of("FAIL")), (0, vec![]));
}

#[test]
fn nginx_as_documented_passes() {
    let server = Landfall::start(&["-behind-proxy"]);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, with_key) = certificate(dir.path());
    let block = documented("nginx", &server).replace("listen 443 ", "listen 127.0.0.1:PORT ");
    let proxy = ReverseProxy::nginx(&format!(
        "ssl_certificate {with_key};\nssl_certificate_key {with_key};\n\
         error_page 497 =301 https://$http_host$request_uri;\n{block}"
    ));
    let url = format!("localhost:{}/files/", proxy.port());
    let (code, found) =
        doctor(command(&format!("https://{url}")).env("SSL_CERT_FILE", &certificate));
    assert_eq!(
        (code, found.of("FAIL"), found.of("warn")),
        (0, vec![], vec![])
    );
    found.has("note", "HTTP versions", &["HTTP/2 and HTTP/1.1"]);
    assert!(
        found
            .text("Location")
            .starts_with(&format!("https://{url}"))
    );
    is_empty(&server);

    // An untrusted certificate ends the checks.
    let (code, found) = examine(&format!("https://{url}"));
    assert_eq!((code, found.0.len()), (1, 1));
    found.has("FAIL", "response", &["TLS"]);
}

#[test]
fn redirects_to_https_are_followed() {
    let server = Landfall::start(&["-behind-proxy"]);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, with_key) = certificate(dir.path());
    let proxy = ReverseProxy::nginx(&format!(
        "ssl_certificate {with_key};\nssl_certificate_key {with_key};\n\
         error_page 497 =301 https://$http_host$request_uri;\n\
         server {{ listen 127.0.0.1:PORT ssl; location / {{ proxy_pass http://{}; {WELL_CONFIGURED} }} }}",
        server.address()
    ));
    let url = format!("http://localhost:{}/files/", proxy.port());
    let (code, found) = doctor(command(&url).env("SSL_CERT_FILE", &certificate));
    assert_eq!((code, found.of("FAIL")), (0, vec![]));
    found.has("note", "redirect", &["301", "https://localhost"]);
    found.has("note", "HTTP versions", &["HTTP/1.1"]);

    // The operator's headers do not reach another host.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://localhost:{}/", other.local_addr().unwrap().port());
    let proxy = nginx_location(&server, &format!("return 302 {target};"));
    let (code, found) = doctor(command(&url_of(&proxy)).args(["--header", "Authorization: a"]));
    assert_eq!((code, found.0.len()), (1, 1));
    found.has("FAIL", "redirect", &["302", &target]);
    other.set_nonblocking(true).unwrap();
    assert_eq!(
        other.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn haproxy_passes() {
    let server = Landfall::start(&[]);
    let proxy = haproxy(server.address());
    let (code, found) = examine(&url_of(&proxy));
    assert_eq!(
        (code, found.of("FAIL"), found.of("warn")),
        (0, vec![], vec![])
    );
    is_empty(&server);
}

#[test]
fn haproxy_as_documented_passes() {
    let server = Landfall::start(&["-behind-proxy"]);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, with_key) = certificate(dir.path());
    let block = documented("haproxy", &server);
    let block = block.replace("bind :443 ", "bind 127.0.0.1:PORT ");
    let proxy = ReverseProxy::haproxy(&block.replace("/etc/haproxy/uploads.pem", &with_key));
    let url = format!("https://localhost:{}/files/", proxy.port());
    let (code, found) = doctor(command(&url).env("SSL_CERT_FILE", &certificate));
    assert_eq!(
        (code, found.of("FAIL"), found.of("warn")),
        (0, vec![], vec![])
    );
    is_empty(&server);
}

#[test]
fn removed_methods_are_named() {
    let server = Landfall::start(&["-behind-proxy"]);
    let without = |methods: &str| {
        let deny =
            format!("if ($request_method ~ ^({methods})$) {{ return 405; }} {WELL_CONFIGURED}");
        examine(&url_of(&nginx_location(&server, &deny)))
    };
    let (code, found) = without("PATCH|DELETE");
    // Other checks use the override, too, and so does the removal of the uploads.
    assert_eq!((code, found.of("warn")), (0, vec!["PATCH", "DELETE"]));
    let patch = [
        "405",
        "nginx",
        "X-HTTP-Method-Override passes",
        "overridePatchMethod",
    ];
    found.has("warn", "PATCH", &patch);
    is_empty(&server);

    let (code, found) = without("HEAD");
    assert_eq!((code, found.of("FAIL")), (1, vec!["HEAD"]));
    is_empty(&server);

    // Nothing removes uploads here, so they are named.
    let no_override = "proxy_set_header X-HTTP-Method-Override '';";
    let deny =
        format!("if ($request_method = DELETE) {{ return 403; }} {no_override} {WELL_CONFIGURED}");
    let (code, found) = examine(&url_of(&nginx_location(&server, &deny)));
    assert_eq!((code, found.of("warn")), (0, vec!["DELETE", "clean-up"]));
    are_named(&server, &found);
}

#[test]
fn removed_fields_are_named() {
    let server = Landfall::start(&["-behind-proxy"]);
    let examine = |directive: &str, severity: &str, check: &str, text: &str| {
        let directives = format!("{WELL_CONFIGURED} {directive}");
        let (code, found) = examine(&url_of(&nginx_location(&server, &directives)));
        assert_eq!(code, i32::from(severity == "FAIL"), "{directive}");
        found.has(severity, check, &[text, "proxy_hide_header"]);
    };
    let lost = "does not reach the server";
    // Most of their time is spent waiting.
    thread::scope(|scope| {
        for (directive, severity, check, text) in [
            (
                "proxy_set_header Upload-Length '';",
                "FAIL",
                "creation",
                lost,
            ),
            (
                "proxy_set_header Tus-Resumable '';",
                "FAIL",
                "creation",
                lost,
            ),
            ("proxy_set_header Upload-Offset '';", "FAIL", "PATCH", lost),
            (
                "proxy_hide_header Location;",
                "FAIL",
                "creation",
                "its upload remains",
            ),
            (
                "proxy_hide_header Upload-Offset;",
                "FAIL",
                "fields",
                "Upload-Offset",
            ),
            (
                "proxy_set_header Upload-Metadata '';",
                "warn",
                "fields",
                "Upload-Metadata",
            ),
            (
                "proxy_set_header Upload-Complete '';",
                "warn",
                "IETF draft",
                "fails",
            ),
            (
                "proxy_hide_header Upload-Complete;",
                "warn",
                "IETF draft",
                "Upload-Complete",
            ),
            (
                "proxy_set_header Upload-Draft-Interop-Version '';",
                "warn",
                "IETF draft version",
                lost,
            ),
        ] {
            let examine = &examine;
            scope.spawn(move || examine(directive, severity, check, text));
        }
    });
    // The one without a Location: data and description.
    assert_eq!(remaining(&server).len(), 2);
}

#[test]
fn uploads_that_remain_are_named() {
    let server = Landfall::start(&["-disable-termination"]);
    let (code, found) = examine(&format!("http://{}/files/", server.address()));
    assert_eq!((code, found.of("warn")), (0, vec!["clean-up"]));
    found.has("note", "DELETE", &["termination"]);
    are_named(&server, &found);
}

#[test]
fn an_interrupt_removes_the_uploads() {
    let server = Landfall::start(&["-behind-proxy"]);
    let proxy = nginx_location(&server, "");
    let mut child = command(&url_of(&proxy))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    // The next check waits for a body that nginx holds back.
    assert!(lines.any(|line| line.starts_with("ok    DELETE ")));
    eventually("no upload was created", || !remaining(&server).is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:#?}");
    assert!(
        rest.iter().all(|line| !line.contains("clean-up")),
        "{rest:#?}"
    );
    is_empty(&server);
}

#[test]
fn cached_offsets_and_rejected_expectations_are_reported() {
    let server = Landfall::start(&["-behind-proxy"]);
    let proxy = ReverseProxy::nginx(&format!(
        "proxy_cache_path cache keys_zone=offsets:1m; server {{ listen 127.0.0.1:PORT; location / {{ \
         proxy_pass http://{}; proxy_cache offsets; proxy_cache_convert_head off; proxy_cache_valid 1m; \
         proxy_ignore_headers Cache-Control; {WELL_CONFIGURED} }} }}",
        server.address()
    ));
    let (code, found) = examine(&url_of(&proxy));
    assert_eq!(code, 1);
    found.has("FAIL", "offset", &["HEAD returns 0", "proxy_cache off"]);

    let reject = format!("if ($http_expect) {{ return 417; }} {WELL_CONFIGURED}");
    let (code, found) = examine(&url_of(&nginx_location(&server, &reject)));
    assert_eq!((code, found.of("warn")), (0, vec!["Expect"]));
    found.has("warn", "Expect", &["417"]);
}

#[test]
fn credentials_are_sent_as_header_fields() {
    let server = Landfall::start(&["-behind-proxy"]);
    let check =
        format!("if ($http_authorization != 'Bearer a') {{ return 401; }} {WELL_CONFIGURED}");
    let proxy = nginx_location(&server, &check);
    let (code, found) = examine(&url_of(&proxy));
    assert_eq!((code, found.0.len()), (1, 1));
    found.has("FAIL", "OPTIONS", &["401", "--header"]);
    let (code, found) =
        doctor(command(&url_of(&proxy)).args(["--header", "Authorization: Bearer a"]));
    assert_eq!((code, found.of("FAIL")), (0, vec![]));
}

#[test]
fn a_pause_that_is_cut_is_reported_with_its_duration() {
    let server = Landfall::start(&["-behind-proxy"]);
    let limit = format!("client_body_timeout 2s; {WELL_CONFIGURED}");
    let proxy = nginx_location(&server, &limit);
    let (_, found) = doctor(command(&url_of(&proxy)).args(["--slow", "10s"]));
    found.has("warn", "pause", &["is cut after", "client_body_timeout"]);
    let text = found.text("pause");
    let (_, rest) = text.split_once("after ").unwrap();
    let seconds: f64 = rest.split_once(" s").unwrap().0.parse().unwrap();
    assert!((1.5..10.0).contains(&seconds), "{text}");
}

#[test]
fn a_proxy_that_never_responds_is_reported() {
    // Connections are accepted by the kernel, and by nothing else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/files/", listener.local_addr().unwrap());
    let (code, found) = doctor(command(&url).args(["--response-timeout", "1s"]));
    assert_eq!((code, found.0.len()), (1, 1));
    found.has("FAIL", "response", &["no response within 1.0 s"]);

    drop(listener);
    let (code, found) = examine(&url);
    assert_eq!((code, found.0.len()), (1, 1));
    found.has("FAIL", "response", &["cannot connect"]);
}

#[test]
fn interim_responses_pass_or_leave_the_connection_out_of_step() {
    let server = Landfall::start(&["-behind-proxy"]);
    let upstream = with_interim_response(server.address());
    for url in [
        format!("http://{upstream}/files/"),
        url_of(&haproxy(upstream)),
    ] {
        let (code, found) = examine(&url);
        assert_eq!((code, found.of("FAIL")), (0, vec![]));
        found.has("ok", "interim responses", &["104"]);
        assert_eq!(found.severity("connection"), "ok");
    }

    // nginx takes a 104 for the final response: it passes all that follows as content, and no more requests.
    let examine = |directives: &str| {
        let proxy = ReverseProxy::nginx(&format!(
            "server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://{upstream}; \
             {WELL_CONFIGURED} proxy_set_header Connection ''; {directives} }} }}"
        ));
        doctor(command(&url_of(&proxy)).args(["--response-timeout", "10s"]))
    };
    let (code, found) = examine("proxy_buffering off;");
    assert_eq!((code, found.of("FAIL")), (1, vec!["connection"]));
    found.has(
        "FAIL",
        "connection",
        &["no response", "nginx passes only 103"],
    );
    let (code, found) = examine("");
    assert_eq!((code, found.of("FAIL")), (1, vec!["IETF draft"]));
    found.has(
        "FAIL",
        "IETF draft",
        &["no response", "104", "nginx passes only 103"],
    );
}

#[test]
fn findings_are_printed_as_json() {
    let server = Landfall::start(&[]);
    let url = format!("http://{}/files/", server.address());
    let (code, printed, _) = run(command(&url).arg("--json"));
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()));
    assert_eq!(report["url"], url.as_str());
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["check"] == "PATCH");
    assert_eq!(found.unwrap()["severity"], "ok");
}

/// Passes connections to a server, whose responses to draft creations follow a 104.
fn with_interim_response(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || pass(client, server));
        }
    });
    address
}

fn pass(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if String::from_utf8_lossy(&head)
        .to_lowercase()
        .contains("upload-complete")
    {
        client.write_all(
            b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 6\r\n\
              Location: /files/0\r\n\r\n",
        )?;
    }
    upstream.write_all(&head)?;
    let (mut responses, mut receiver) = (upstream.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut responses, &mut receiver);
        let _ = receiver.shutdown(Shutdown::Both);
    });
    io::copy(&mut client, &mut upstream)?;
    upstream.shutdown(Shutdown::Write)
}
