//! Clients that missed the last answer, after the application has moved the file away.

use std::{io::Write as _, path::Path};

use crate::program::{Program, id_of, lines, patch, wait_until};

fn wait_for(dir: &Path, files: usize) {
    wait_until("the file is not in the catalog", || {
        lines(dir.join("catalog")).len() >= files
    });
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn the_client_that_missed_the_answer_sends_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start("photo_library", dir.path());
    let path = program.create(11, "Upload-Metadata: filename YS5qcGc=");
    let mut cut = program.open(&patch(&path, 0), 11);
    cut.write_all(b"hello world").unwrap();
    wait_for(dir.path(), 1);
    drop(cut);
    let repeats = |program: &Program| {
        let answer = program.head(&path).expect(200);
        assert_eq!(answer.field("upload-offset"), Some("11"));
        assert_eq!(answer.field("upload-length"), Some("11"));
        assert_eq!(answer.field("upload-metadata"), Some("filename YS5qcGc="));
        program.patch(&path, 11, b"").expect(204);
        let wrong = program.patch(&path, 0, b"hello world").expect(409);
        assert_eq!(wrong.field("upload-offset"), Some("11"));
        program.patch(&path, 11, b"!").expect(413);
        let gone = program.send(&format!("GET {path}"), b"").expect(410);
        assert!(gone.body.contains("moved the file"), "{}", gone.body);
    };
    repeats(&program);
    program.kill();
    let program = Program::start("photo_library", dir.path());
    repeats(&program);
    assert_eq!(count(&dir.path().join("library")), 1);
    assert_eq!(lines(dir.path().join("catalog")).len(), 1);
    // The client, too, may be done with it.
    program.send(&format!("DELETE {path}"), b"").expect(404);
}

#[test]
fn a_file_sent_in_parallel_is_moved_with_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start("photo_library", dir.path());
    let parts = ["hello ", "world"].map(|content| {
        let path = program.create(content.len(), "Upload-Concat: partial");
        program.patch(&path, 0, content.as_bytes()).expect(204);
        path
    });
    let concat = format!(
        "POST /files/\nUpload-Concat: final;{} {}",
        parts[0], parts[1]
    );
    let path = program.send(&concat, b"").expect(201).path();
    wait_for(dir.path(), 1);
    let photo = dir.path().join("library").join(id_of(&path));
    assert_eq!(std::fs::read_to_string(photo).unwrap(), "hello world");
    assert_eq!(count(&dir.path().join("library")), 1);
    program.head(&path).expect(200);
    // The client that missed the answer, before and after a restart.
    assert_eq!(program.send(&concat, b"").expect(201).path(), path);
    program.kill();
    let program = Program::start("photo_library", dir.path());
    assert_eq!(program.send(&concat, b"").expect(201).path(), path);
    // Another file of these parts cannot be made any more.
    let other = format!("POST /files/\nUpload-Concat: final;{}", parts[0]);
    program.send(&other, b"").expect(410);
    assert_eq!(count(&dir.path().join("library")), 1);
    for part in &parts {
        let data = dir.path().join("uploads").join(id_of(part));
        wait_until("the part keeps its bytes", || !data.exists());
        program.head(part).expect(200);
    }
}
