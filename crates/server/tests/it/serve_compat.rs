//! `--compat tusd`: lenient metadata.

use crate::serve_harness::{Landfall, path_of};

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
