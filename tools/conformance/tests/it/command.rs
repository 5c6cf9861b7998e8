//! The command line: exit codes, files and expectations.

use std::time::Duration;

use landfall_conformance::Level;
use landfall_conformance::cli::{Status, command, run};

use crate::reference::{Mutant, Reference};

const HOUR: Duration = Duration::from_secs(3600);

async fn call(args: &[&str]) -> (Status, String) {
    let matches = command()
        .try_get_matches_from([&["conformance"], args].concat())
        .unwrap();
    let mut output = Vec::new();
    let status = run(&matches, &mut output).await.unwrap();
    (status, String::from_utf8(output).unwrap())
}

#[tokio::test]
async fn exit_codes() {
    let server = Reference::start(None, HOUR).await;
    let url = server.url.as_str();
    let (status, output) = call(&[url, "--only", "tus/head/"]).await;
    assert_eq!(status.code(), 0, "{output}");

    let broken = Reference::start(Some(Mutant::HeadIsCacheable), HOUR).await;
    let (status, output) = call(&[broken.url.as_str(), "--only", "tus/head/"]).await;
    assert_eq!(status.code(), 1, "{output}");

    // A SHOULD alone does not fail the run.
    let lenient = Reference::start(Some(Mutant::AnyContentType), HOUR).await;
    let (status, output) = call(&[lenient.url.as_str(), "--only", "tus/patch/*-is-415"]).await;
    assert_eq!(status.code(), 0, "{output}");
    assert!(
        output.contains("failed     SHOULD tus/patch/octet-stream-is-415"),
        "{output}"
    );

    let (status, output) = call(&["http://127.0.0.1:1/files/"]).await;
    assert_eq!(status.code(), 3, "{output}");
    for args in [
        ["conformance", "ftp://example.com/", "--quiet"],
        ["conformance", "http://127.0.0.1/", "--expect=teleportation"],
        ["conformance", "http://127.0.0.1/", "--header=no-colon"],
        ["conformance", "http://127.0.0.1/", "--concurrency=0"],
    ] {
        assert_eq!(
            command()
                .try_get_matches_from(args)
                .unwrap_err()
                .exit_code(),
            2,
            "{args:?}"
        );
    }
}

#[tokio::test]
async fn documented_choices_are_no_failures_with_their_profile() {
    let server = Reference::start(Some(Mutant::OverrideOfPostAlone), HOUR).await;
    let url = server.url.as_str();
    let arguments = [url, "--only", "tus/method-override/put-as-patch"];
    let (status, output) = call(&arguments).await;
    assert_eq!(status.code(), 1, "{output}");
    let (status, output) = call(&[&arguments[..], &["--profile", "tusd"]].concat()).await;
    assert_eq!(status.code(), 0, "{output}");
    let line = "documented MUST   tus/method-override/put-as-patch (the status is 405";
    assert!(output.contains(line), "{output}");
    assert!(output.contains("   1 documented choices"), "{output}");
    // Those of another server are failures.
    let (status, output) = call(&[&arguments[..], &["--profile", "landfall"]].concat()).await;
    assert_eq!(status.code(), 1, "{output}");
    let unknown = ["conformance", url, "--profile", "of-nobody"];
    let error = command().try_get_matches_from(unknown).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[tokio::test]
async fn expected_extensions_have_to_be_there() {
    let server = Reference::start(Some(Mutant::OptionsIsNotFound), HOUR).await;
    let url = server.url.as_str();
    let (status, _) = call(&[url, "--only", "tus/checksum/sha1", "--expect", "checksum"]).await;
    assert_eq!(status, Status::Conformant);

    let missing = Reference::start(Some(Mutant::OptionsWithoutExtensions), HOUR).await;
    let url = missing.url.as_str();
    let (status, output) = call(&[url, "--only", "tus/checksum/sha1"]).await;
    assert_eq!(status, Status::Conformant, "{output}");
    assert!(
        output.contains("(the server does not offer creation)"),
        "{output}"
    );
    let (status, output) = call(&[url, "--only", "tus/checksum/sha1", "--expect", "tus"]).await;
    assert_eq!(status, Status::NotConformant, "{output}");
}

#[tokio::test]
async fn reports_are_written_to_files() {
    let server = Reference::start(None, HOUR).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, junit, badge) = (path("a.json"), path("b.xml"), path("c.svg"));
    let args = [
        server.url.as_str(),
        "--only",
        "tus/options/",
        "--quiet",
        "--json",
        &json,
        "--junit",
        &junit,
        "--badge",
        &badge,
    ];
    let (status, output) = call(&args).await;
    assert_eq!(status, Status::Conformant, "{output}");
    assert!(!output.contains("tus/options/succeeds"), "{output}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert!(read(&json).contains("\"conformant\": true"));
    assert!(read(&junit).starts_with("<?xml"));
    assert!(read(&badge).starts_with("<svg"));
}

#[tokio::test]
async fn list_names_each_check_once() {
    let (status, output) = call(&["--list"]).await;
    assert_eq!(status, Status::Conformant);
    let ids: Vec<_> = output
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(ids.len(), unique.len());
    assert!(ids.len() >= 250, "{} checks", ids.len());
}

#[tokio::test]
async fn uploads_require_their_credentials_and_metadata() {
    let server = Reference::start(Some(Mutant::NeedsNameAndToken), HOUR).await;
    let url = server.url.as_str();
    let args = [
        url,
        "--only",
        "tus/metadata/",
        "--header",
        "Authorization: Bearer x",
        "--metadata",
        "name=a b",
    ];
    let (status, output) = call(&args).await;
    assert_eq!(status, Status::Conformant, "{output}");
    assert!(!output.contains("\n  failed"), "{output}");
    assert_eq!(server.uploads(), 0);
    let (status, _) = call(&[url, "--only", "tus/metadata/is-returned"]).await;
    assert_eq!(status, Status::NotConformant);
}

#[test]
fn documentation_counts_the_checks() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let page = std::fs::read_to_string(page).unwrap();
    for group in landfall_conformance::groups() {
        let count = |level| {
            group
                .checks
                .iter()
                .filter(|check| check.level == level)
                .count()
        };
        let [must, should, may] = [Level::Must, Level::Should, Level::May].map(count);
        let row = format!("| {} | {must} | {should} | {may} |", group.title);
        assert!(page.contains(&row), "README.md lacks the row {row}");
    }
}

/// Returns whether a name is that of a pattern, in which `*` matches any characters.
fn is_named(pattern: &str, id: &str) -> bool {
    let (first, rest) = pattern.split_once('*').unwrap_or((pattern, ""));
    match id.strip_prefix(first) {
        Some(left) if pattern.len() == first.len() => left.is_empty(),
        Some(left) => (0..=left.len()).any(|at| is_named(rest, &left[at..])),
        None => false,
    }
}

/// What shows a behavior exists, and no chapter of the checks is missing on the page.
#[test]
fn the_list_of_choices_names_checks_and_tests() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("crates/landfall/tests/protocol.md")).unwrap();
    let ids =
        || landfall_conformance::groups().flat_map(|group| group.checks.iter().map(|one| one.id));
    let is_check = |word: &&str| word.starts_with("tus/") || word.starts_with("draft/");
    let named: Vec<&str> = page.split('`').filter(is_check).collect();
    let named: Vec<&str> = named
        .into_iter()
        .filter(|word| !word.ends_with('…'))
        .collect();
    assert!(named.len() > 80, "{} checks are named", named.len());
    for word in &named {
        let exists = ids().any(|id| is_named(word, id));
        assert!(
            exists,
            "crates/landfall/tests/protocol.md: there is no check {word}"
        );
    }
    for id in ids() {
        let (chapter, _) = id.rsplit_once('/').unwrap();
        let is_there = named
            .iter()
            .any(|word| word.rsplit_once('/').unwrap().0 == chapter);
        assert!(
            is_there,
            "crates/landfall/tests/protocol.md: {chapter} is missing"
        );
    }
    let mut tests = String::new();
    for folder in [
        "crates/landfall/tests/it",
        "crates/protocol/tests/it",
        "crates/s3/tests/it",
    ] {
        add_sources(&root.join(folder), &mut tests);
    }
    let rows = page
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    let is_test = |word: &&str| {
        word.contains('_')
            && word
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let named: Vec<&str> = rows
        .flat_map(|(_, cell)| cell.split('`'))
        .filter(is_test)
        .collect();
    assert!(named.len() > 50, "{} tests are named", named.len());
    for name in named {
        let exists = tests.contains(&format!("fn {name}()"));
        assert!(
            exists,
            "crates/landfall/tests/protocol.md: there is no test {name}"
        );
    }
}

fn add_sources(folder: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => add_sources(&path, text),
            false => text.push_str(&std::fs::read_to_string(path).unwrap()),
        }
    }
}
