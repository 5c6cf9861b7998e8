//! The composer below a path of another server, with either store.

use std::io::BufRead as _;

use crate::program::{Program, id_of, patch};

fn path(url: &str) -> String {
    let host = url.strip_prefix("http://").expect(url);
    host[host.find('/').unwrap()..].to_owned()
}

/// Creates, appends, inspects, downloads, concatenates and removes uploads.
fn carries_uploads(program: &Program, base: &str) -> Vec<String> {
    let options = program.send(&format!("OPTIONS {base}"), b"").expect(200);
    let extensions = options.field("tus-extension").unwrap();
    for extension in ["creation", "termination", "concatenation"] {
        assert!(extensions.contains(extension), "{extensions}");
    }
    let create = |fields: &str| {
        let created = program
            .send(&format!("POST {base}\n{fields}"), b"")
            .expect(201);
        path(created.field("location").unwrap())
    };
    let whole = create("Upload-Length: 11\nUpload-Metadata: filename YS50eHQ=");
    assert!(whole.starts_with(base), "{whole}");
    program.patch(&whole, 0, b"hello ").expect(204);
    let half = program.head(&whole).expect(200);
    assert_eq!(half.field("upload-offset"), Some("6"));
    program.patch(&whole, 0, b"hello ").expect(409);
    program.patch(&whole, 6, b"world").expect(204);
    let download = program.send(&format!("GET {whole}"), b"").expect(200);
    assert_eq!(download.body, "hello world");

    let parts = [(); 2].map(|()| {
        let part = create("Upload-Length: 3\nUpload-Concat: partial");
        program.patch(&part, 0, b"abc").expect(204);
        part
    });
    let joined = create(&format!("Upload-Concat: final;{} {}", parts[0], parts[1]));
    let download = program.send(&format!("GET {joined}"), b"").expect(200);
    assert_eq!(download.body, "abcabc");

    for path in [&whole, &joined] {
        program.send(&format!("DELETE {path}"), b"").expect(204);
        program.head(path).expect(404);
        program.send(&patch(path, 11), b"").expect(404);
    }
    let [one, other] = parts;
    [whole, one, other, joined]
        .map(|path| id_of(&path))
        .to_vec()
}

#[test]
fn either_store_is_composed_and_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start("composer", dir.path());
    let page = program.send("GET /", b"").expect(200);
    assert_eq!(page.body, "a page of this server\n");
    carries_uploads(&program, "/scratch/");
    assert_eq!(program.send("GET /files", b"").expect(200).body, page.body);
    for id in carries_uploads(&program, "/files/") {
        let mut line = String::new();
        program.out.read_line(&mut line).unwrap();
        assert_eq!(line, format!("upload {id} finished\n"));
    }
}
