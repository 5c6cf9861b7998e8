//! What outer layers do to uploads.

use std::io::Write as _;

use crate::program::{Program, patch, read};

const MIB: usize = 1 << 20;

fn start() -> (Program, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Program::start("layers", dir.path()), dir)
}

const SIGNED_IN: &str = "Authorization: Bearer me";

#[test]
fn an_early_response_reaches_a_client_that_sends_first() {
    let (program, _dir) = start();
    let content = vec![7; 8 * MIB];
    let post =
        "POST /files/\nUpload-Length: 8388608\nContent-Type: application/offset+octet-stream";
    let too_much = "POST /files/\nUpload-Length: 99999999\nAuthorization: Bearer me\n\
                    Content-Type: application/offset+octet-stream";
    for _ in 0..40 {
        // `send` writes everything before it reads: of the middleware, of the limit, of the handler.
        let answer = program.send(post, &content).expect(401);
        assert_eq!(answer.body, "please sign in\n");
        program
            .send(&format!("{post}\n{SIGNED_IN}"), &content)
            .expect(413);
        let answer = program.send(too_much, &content[..MIB]).expect(413);
        assert!(
            answer.body.starts_with("ERR_MAX_SIZE_EXCEEDED"),
            "{}",
            answer.body
        );
    }
}

#[test]
fn the_limit_of_a_layer_is_a_final_413() {
    let (program, _dir) = start();
    let path = program.create(3 * MIB, SIGNED_IN);
    let fields = format!(
        "{}\n{SIGNED_IN}\nTransfer-Encoding: chunked",
        patch(&path, 0)
    );
    let mut client = program.open(&fields, 0);
    let chunk = vec![7; 256 * 1024];
    for _ in 0..8 {
        client.write_all(b"40000\r\n").unwrap();
        client.write_all(&chunk).unwrap();
        client.write_all(b"\r\n").unwrap();
    }
    client.write_all(b"0\r\n\r\n").unwrap();
    let answer = read(client).expect(413);
    assert!(
        answer.body.starts_with("ERR_APPEND_TOO_LARGE"),
        "{}",
        answer.body
    );
    let answer = program
        .send(&format!("HEAD {path}\n{SIGNED_IN}"), b"")
        .expect(200);
    assert_eq!(answer.field("upload-offset"), Some("1048576"));
}

#[test]
fn the_time_limit_of_a_layer_is_retried() {
    let (program, _dir) = start();
    let path = program.create(10, SIGNED_IN);
    let mut client = program.open(&format!("{}\n{SIGNED_IN}", patch(&path, 0)), 10);
    client.write_all(b"hello").unwrap();
    let answer = read(client).expect(503);
    assert!(answer.field("retry-after").is_some());
    let answer = program
        .send(&format!("HEAD {path}\n{SIGNED_IN}"), b"")
        .expect(200);
    assert_eq!(answer.field("upload-offset"), Some("5"));
}
