//! What goes out over HTTP goes through the proxy that the environment names.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    serve_harness::{Landfall, Request, eventually, program, run},
    serve_tls::Https,
};

/// A proxy that notes request lines and credentials. It tunnels to one address, or reaches nothing.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        Self::tunneling(None)
    }

    fn tunneling(target: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut head = String::new();
                let mut reader = BufReader::new(&stream);
                while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                let is_tunnel = head.starts_with("CONNECT");
                seen.lock().unwrap().push(head);
                match target.filter(|_| is_tunnel) {
                    Some(target) => tunnel(stream, target),
                    None => {
                        let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\
                                      Connection: close\r\n\r\n";
                        let _ = (&stream).write_all(answer.as_bytes());
                    }
                }
            }
        });
        Self { address, heads }
    }

    /// Makes a program use it.
    fn of(&self, mut command: Command) -> Command {
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        let url = format!("http://user:word@{}", self.address);
        command.env("HTTP_PROXY", &url).env("HTTPS_PROXY", url);
        command.envs([
            ("NO_PROXY", "direct.invalid"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]);
        command
    }

    fn seen(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits for a request with this line.
    #[track_caller]
    fn sees(&self, line: &str) {
        eventually(&format!("the proxy saw no {line:?}"), || {
            let heads = self.seen();
            let head = heads.iter().find(|head| head.contains(line));
            let credentials = "proxy-authorization: basic dxnlcjp3b3jk";
            head.is_some_and(|head| head.to_lowercase().contains(credentials))
        });
    }
}

fn tunnel(client: TcpStream, target: SocketAddr) {
    let server = TcpStream::connect(target).unwrap();
    (&client)
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .unwrap();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    copy(client.try_clone().unwrap(), server.try_clone().unwrap());
    copy(server, client);
}

/// Starts a server with the proxy and creates an upload, which calls hooks.
fn server(proxy: &Proxy, args: &[&str]) -> (Landfall, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = proxy.of(program());
    command.args(["-host=127.0.0.1", "-port=0", "-upload-dir"]);
    command.arg(dir.path()).args(args);
    let server = Landfall::spawn(command, dir.path());
    (server, dir)
}

#[test]
fn hooks_use_the_proxy() {
    let proxy = Proxy::start();
    let (http, _dir) = server(
        &proxy,
        &["-hooks-http=http://hooks.invalid/h", "-hooks-http-retry=0"],
    );
    http.client().ask(Request::post().with("Upload-Length", 5));
    proxy.sees("POST http://hooks.invalid/h HTTP/1.1");
    let args = ["-hooks-grpc=grpc.invalid:50051", "-hooks-grpc-retry=0"];
    let (grpc, _dir) = server(&proxy, &args);
    grpc.client().ask(Request::post().with("Upload-Length", 5));
    proxy.sees("CONNECT grpc.invalid:50051 HTTP/1.1");
}

#[test]
fn authentication_uses_the_proxy() {
    let proxy = Proxy::start();
    for (args, line) in [
        (
            &["-grants-forward-auth-url=http://auth.invalid/who"][..],
            "GET http://auth.invalid/who HTTP/1.1",
        ),
        (
            &[
                "-grants-jwt-keys=https://keys.invalid/jwks",
                "-grants-jwt-audience=uploads",
                "-grants-jwt-issuer=https://keys.invalid/",
            ],
            "CONNECT keys.invalid:443 HTTP/1.1",
        ),
    ] {
        let args: Vec<_> = [&["-grants"], args].concat();
        let (server, _dir) = server(&proxy, &args);
        let header = "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.YQ";
        let ask = Request::get("/uploadjobs").with("Authorization", header);
        server.client().ask(ask);
        proxy.sees(line);
        assert!(!server.log().contains("resolve"), "{}", server.log());
    }
}

#[test]
fn the_certificate_authority_is_asked_through_the_proxy() {
    let proxy = Proxy::start();
    let args = [
        "-acme-domain=landfall.invalid",
        "-acme-directory=https://acme.invalid/directory",
    ];
    let (_server, _dir) = server(&proxy, &args);
    proxy.sees("CONNECT acme.invalid:443 HTTP/1.1");
}

#[test]
fn s3_uses_the_proxy_unless_no_proxy_names_its_host() {
    let proxy = Proxy::start();
    let start = |endpoint: &str| {
        let mut command = proxy.of(program());
        let endpoint = format!("-s3-endpoint={endpoint}");
        command.args(["-host=127.0.0.1", "-port=0", "-s3-bucket=bucket", &endpoint]);
        let dir = tempfile::tempdir().unwrap();
        (Landfall::launch(command, dir.path()), dir)
    };
    let _plain = start("http://s3.invalid");
    proxy.sees("GET http://s3.invalid/bucket");
    let _secure = start("https://secure.invalid");
    proxy.sees("CONNECT secure.invalid:443 HTTP/1.1");
    let mut direct = proxy.of(program());
    direct.args([
        "-port=0",
        "-s3-bucket=bucket",
        "-s3-endpoint=http://direct.invalid",
    ]);
    let (status, _, told) = run(&mut direct);
    assert_eq!(status, Some(1), "{told}");
    assert!(
        told.contains("\"direct.invalid\" cannot be resolved"),
        "{told}"
    );
    assert!(
        !proxy
            .seen()
            .iter()
            .any(|head| head.contains("direct.invalid"))
    );
}

#[test]
fn a_private_authority_is_trusted_if_a_variable_names_it() {
    let service = Https::start(&[]);
    let proxy = Proxy::tunneling(Some(service.server.address()));
    let file = service.certificate_file();
    let told = |variables: &[(&str, &Path)]| {
        let mut command = proxy.of(program());
        command
            .env_remove("SSL_CERT_FILE")
            .env_remove("AWS_CA_BUNDLE");
        command.args([
            "-port=0",
            "-s3-bucket=bucket",
            "-s3-endpoint=https://landfall.test",
        ]);
        let (status, _, told) = run(command.envs(variables.iter().copied()));
        assert_eq!(status, Some(1), "{told}");
        told
    };
    let unknown = "UnknownIssuer";
    let nothing = told(&[]);
    assert!(nothing.contains(unknown), "{nothing}");
    proxy.sees("CONNECT landfall.test:443 HTTP/1.1");
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        // It is no S3 service, but it was asked.
        let trusted = told(&[(variable, &file)]);
        assert!(!trusted.contains(unknown), "{variable}: {trusted}");
        assert!(trusted.contains("404"), "{variable}: {trusted}");
    }
    let missing = told(&[("AWS_CA_BUNDLE", Path::new("/nonexistent/ca.pem"))]);
    let reason = "AWS_CA_BUNDLE: cannot read \"/nonexistent/ca.pem\"";
    assert!(missing.contains(reason), "{missing}");
}

#[cfg(feature = "full")]
#[test]
fn traces_use_the_proxy() {
    let proxy = Proxy::start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = proxy.of(program());
    command.args(["-host=127.0.0.1", "-port=0", "-upload-dir"]);
    command.arg(dir.path());
    command.envs([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://traces.invalid:4318"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ]);
    let server = Landfall::spawn(command, dir.path());
    server
        .client()
        .ask(Request::post().with("Upload-Length", 5));
    proxy.sees("POST http://traces.invalid:4318/v1/traces HTTP/1.1");
}
