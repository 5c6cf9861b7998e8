//! The URL of a server: that of uploads, of the page, an upload link, or a mistake. Grants by API keys.

use axum::http::Method;

use crate::{program::Home, server::Server};

fn tokens(server: &Server) -> Vec<String> {
    let creations = server.requests(Method::POST);
    let tokens = creations
        .iter()
        .filter_map(|headers| headers.get("upload-token"));
    let mut tokens: Vec<_> = tokens
        .map(|token| token.to_str().unwrap().to_owned())
        .collect();
    tokens.sort();
    tokens
}

#[test]
fn the_page_names_the_endpoint() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 10, 1);
    let page = server.endpoint().replace("files/", "");
    let without_slash = page.trim_end_matches('/');
    for url in [page.as_str(), without_slash] {
        let urls = home.lines(&["upload", "a.bin", url]);
        assert!(urls[0].starts_with(&server.endpoint()), "{urls:?}");
    }
    // One request for each, and none for the URL of uploads.
    assert_eq!(server.requests(Method::GET).len(), 2);
    home.lines(&["upload", "a.bin", &server.endpoint()]);
    assert_eq!(server.requests(Method::GET).len(), 2);
    let finished = home.run(&["upload", "a.bin", page.strip_prefix("http://").unwrap()]);
    assert_eq!(finished.code, Some(2));
    let expected = format!(
        "has no scheme; write https://{}",
        page.strip_prefix("http://").unwrap()
    );
    assert!(finished.stderr.contains(&expected), "{finished:?}");
}

#[test]
fn a_page_below_a_path_names_the_endpoint() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 10, 1);
    let page = server.endpoint().replace("files/", "up/");
    let urls = home.lines(&["upload", "a.bin", &page]);
    assert!(urls[0].starts_with(&server.endpoint()), "{urls:?}");
    home.lines(&["upload", "a.bin", &page, "--key", "lfk_right"]);
    assert_eq!(tokens(&server), ["lft_a.bin-10"]);
}

#[test]
fn any_url_of_a_server_leads_to_its_endpoint() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 10, 1);
    let upload = home.lines(&["upload", "a.bin", &server.endpoint()])[0].clone();
    let of_page = |path: &str| server.endpoint().replace("files/", path);
    for url in [
        upload,
        of_page("admin/"),
        of_page("metrics"),
        of_page("admin/?a=b#/uploads/1"),
    ] {
        let urls = home.lines(&["upload", "a.bin", &url]);
        let (parent, _) = urls[0].rsplit_once('/').unwrap();
        assert_eq!(format!("{parent}/"), server.endpoint(), "{url}");
        home.lines(&["upload", "a.bin", &url, "--key", "lfk_right"]);
    }
    assert_eq!(tokens(&server), ["lft_a.bin-10"; 4]);
}

#[test]
fn a_link_and_a_key_request_a_grant_for_each_file() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 10, 1);
    home.file("b.bin", 20, 1);
    let endpoint = server.endpoint();
    let link = endpoint.replace("files/", "#token=lfk_right");
    home.lines(&["upload", "a.bin", "b.bin", &link]);
    home.lines(&["upload", "a.bin", &endpoint, "--key", "lfk_right"]);
    let mut command = home.command(&["upload", "b.bin", &endpoint]);
    assert!(
        command
            .env("LANDFALL_API_KEY", "lfk_right")
            .status()
            .unwrap()
            .success()
    );
    let granted = [
        "lft_a.bin-10",
        "lft_a.bin-10",
        "lft_b.bin-20",
        "lft_b.bin-20",
    ];
    assert_eq!(tokens(&server), granted);
    // The key is sent to the grant API alone.
    for headers in server.requests(Method::POST) {
        assert_ne!(
            headers.contains_key("upload-token"),
            headers.contains_key("authorization")
        );
    }
    assert_eq!(server.uploads(), 4);
}

#[test]
fn what_was_not_granted_says_why() {
    let (server, home) = (Server::start(), Home::new());
    home.file("denied.bin", 10, 1);
    let endpoint = server.endpoint();
    let link = endpoint.replace("files/", "#token=lfk_right");
    let finished = home.run(&["upload", "denied.bin", &link]);
    assert_eq!(finished.code, Some(4), "{finished:?}");
    let reason = "denied.bin: 403 Forbidden: this link accepts one file, and no more\n";
    assert!(finished.stderr.ends_with(reason), "{finished:?}");
    let finished = home.run(&["upload", "denied.bin", &link.replace("right", "wrong")]);
    let reason = "the link was revoked or is not complete";
    assert!(
        finished.stderr.contains(reason) && !finished.stderr.contains("lfk_"),
        "{finished:?}"
    );
    assert_eq!(server.uploads(), 0);
}

#[test]
fn what_helps_after_a_denial_is_not_the_same_command() {
    let (server, home) = (Server::start(), Home::new());
    for number in 0..6 {
        home.file(&format!("denied/denied-{number}.bin"), 10, number);
    }
    let endpoint = server.endpoint();
    let full = endpoint.replace("files/", "#token=lfk_right");
    let revoked = full.replace("right", "revoked");
    let link = "another link may be needed";
    let other = "credentials that the server accepts are needed";
    for (target, flags, status, next) in [
        (&full, &[][..], 0, link),
        (&revoked, &[], 0, link),
        (
            &endpoint,
            &["--key", "lfk_right"],
            0,
            "another --key may be needed",
        ),
        (&endpoint, &["--bearer", "wrong"], 401, other),
    ] {
        server.respond_with(status);
        let arguments = ["upload", "denied", target, "--parallel", "1"];
        let finished = home.run(&[&arguments, flags].concat());
        assert_eq!(finished.code, Some(4), "{finished:?}");
        let end = format!("5 files were not started; {next} to upload them\n");
        assert!(finished.stderr.ends_with(&end), "{finished:?}");
        assert!(!finished.stderr.contains("same command"), "{finished:?}");
    }
}

#[test]
fn an_interrupted_upload_by_a_link_resumes_without_another_grant() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 8 << 20, 1);
    let link = server.endpoint().replace("files/", "#token=lfk_right");
    let mut running = home.start(&["upload", "a.bin", &link, "--limit", "4MiB"]);
    running.wait_for_bytes(2 << 20);
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(running.wait().code(), Some(130));
    home.lines(&["upload", "a.bin", &link]);
    assert_eq!((server.uploads(), tokens(&server).len()), (1, 1));
}
