//! kill -9: each completion arrives.

use std::{collections::BTreeSet, io::BufRead as _, path::Path};

use crate::program::{Program, describes, id_of, lines, patch, wait_until};

const FILES: usize = 12;

fn is_whole(dir: &Path, ids: &BTreeSet<String>) -> bool {
    let known: BTreeSet<_> = lines(dir.join("catalog")).into_iter().collect();
    known == *ids && !describes(dir, "Unacknowledged")
}

#[test]
fn no_file_is_lost_if_the_program_is_killed_at_the_last_204() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start("photo_library", dir.path());
    let mut ids = BTreeSet::new();
    for n in 0..FILES {
        let content = format!("photo {n:05}");
        let path = program.create(content.len(), "");
        program.patch(&path, 0, content.as_bytes()).expect(204);
        ids.insert(id_of(&path));
    }
    program.kill();
    // Killed again and again, after one more file each time.
    for known in 1..=3 {
        let program = Program::start("photo_library", dir.path());
        wait_until("no file was added", || {
            lines(dir.path().join("catalog")).len() > known
        });
        program.kill();
    }
    let program = Program::start("photo_library", dir.path());
    wait_until("files are missing in the catalog", || {
        is_whole(dir.path(), &ids)
    });
    for id in &ids {
        let photo = std::fs::read_to_string(dir.path().join("library").join(id)).unwrap();
        assert!(photo.starts_with("photo 000"), "{photo}");
        let answer = program.head(&format!("/files/{id}")).expect(200);
        assert_eq!(answer.field("upload-offset"), Some("11"));
    }
    // Nothing is emitted again once it is acknowledged.
    let before = lines(dir.path().join("catalog")).len();
    program.kill();
    let program = Program::start("photo_library", dir.path());
    let path = program.create(5, "");
    program.patch(&path, 0, b"hello").expect(204);
    ids.insert(id_of(&path));
    wait_until("the last file is missing", || is_whole(dir.path(), &ids));
    assert_eq!(lines(dir.path().join("catalog")).len(), before + 1);
}

#[test]
fn a_sink_that_was_killed_gets_the_event_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start("own_sink", dir.path());
    let mut ids = BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..FILES {
        let path = program.create(5, "");
        let mut client = program.open(&patch(&path, 0), 5);
        std::io::Write::write_all(&mut client, b"hello").unwrap();
        ids.insert(id_of(&path));
        // No client waits for its answer, and none comes back.
        clients.push(client);
    }
    // All have their last byte: the sink has begun with one, and may have ended with others.
    for _ in 0..FILES {
        let mut line = String::new();
        program.out.read_line(&mut line).unwrap();
        assert!(line.starts_with("emitting "), "{line:?}");
    }
    program.kill();
    drop(clients);
    let program = Program::start("own_sink", dir.path());
    wait_until("completions are missing in the journal", || {
        let known: BTreeSet<_> = lines(dir.path().join("journal")).into_iter().collect();
        known == ids && !describes(dir.path(), "Unacknowledged")
    });
    program.kill();
}
