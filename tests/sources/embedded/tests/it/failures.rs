//! Failures in a program without a subscriber of `tracing`.

use crate::program::{Program, id_of};

#[test]
fn the_cause_of_the_first_500_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start("own_sink", dir.path());
    let path = program.create(5, "");
    program.send("GET /files/unknown", b"").expect(404);
    assert_eq!(program.stderr(), "");
    let description = dir.path().join("uploads").join(id_of(&path) + ".info");
    std::fs::write(description, "not JSON").unwrap();
    for _ in 0..2 {
        program.head(&path).expect(500);
    }
    let printed = program.stderr();
    assert!(printed.contains("description is malformed"), "{printed}");
    assert!(printed.contains("tracing_subscriber"), "{printed}");
    assert_eq!(printed.matches("a request failed").count(), 1, "{printed}");
}
