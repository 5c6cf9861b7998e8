//! The reason phrase of a nonstandard status.

use std::io::Read;

use crate::serve_harness::Landfall;

#[test]
fn status_460_has_a_reason_phrase() {
    let server = Landfall::start(&[]);
    let path = server.client().create(5);
    let mut client = server.client();
    client.send(format!(
        "PATCH {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n\
         Upload-Checksum: crc32 AAAAAA==\r\nContent-Length: 5\r\n\r\nhello"
    ));
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().next();
    assert_eq!(line, Some("HTTP/1.1 460 Checksum Mismatch"));
}
