//! Checks that `docs/protocol.md` and the tests agree.

use std::{collections::BTreeSet, fs, path::Path};

/// Of the names of tests of a requirement.
const PREFIXES: [&str; 4] = ["t_", "e_", "r_", "re_"];

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn documented_and_existing_tests_are_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let mut code = String::new();
    for folder in [
        "crates/landfall/tests/it/requirements",
        "crates/landfall/tests/it/rufh",
        "crates/protocol/tests/it",
    ] {
        sources(&root.join(folder), &mut code);
    }
    let named: BTreeSet<&str> = document
        .split('`')
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect();
    assert!(named.len() > 100, "{} tests are named", named.len());
    for name in &named {
        assert!(
            code.contains(&format!("fn {name}()")),
            "{name} is not a test"
        );
    }
    for name in code.split("fn ").filter_map(|rest| rest.split("()").next()) {
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            assert!(named.contains(name), "{name} is not in the document");
        }
    }
}

#[test]
fn every_interpretation_and_requirement_is_listed() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let document = fs::read_to_string(document).unwrap();
    for n in 1..=62 {
        assert!(document.contains(&format!("| E-{n} |")), "E-{n} is missing");
    }
    for (part, last) in [
        ("CORE", 35),
        ("CRE", 19),
        ("DEF", 7),
        ("CWU", 8),
        ("EXP", 7),
        ("SUM", 12),
        ("TRL", 3),
        ("TRM", 4),
        ("CAT", 20),
    ] {
        for n in 1..=last {
            assert!(
                document.contains(&format!("| T-{part}-{n} |")),
                "T-{part}-{n} is missing"
            );
        }
    }
}
