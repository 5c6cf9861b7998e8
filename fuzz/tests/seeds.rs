//! Runs every target on its seeds, without a fuzzer.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

type Property = fn(&[u8]);

const TARGETS: [(&str, Property); 29] = [
    ("append", landfall_fuzz::append),
    ("arguments", landfall_fuzz::arguments),
    ("authentication", landfall_fuzz::authentication),
    ("checksum", landfall_fuzz::checksum),
    ("chunks", landfall_fuzz::chunks),
    ("concat", landfall_fuzz::concat),
    ("config_file", landfall_fuzz::config_file),
    ("connection", landfall_fuzz::connection),
    ("create", landfall_fuzz::create),
    ("differential", landfall_fuzz::differential),
    ("direct_request", landfall_fuzz::direct_request),
    ("draft_request", landfall_fuzz::draft_request),
    ("fields", landfall_fuzz::fields),
    ("hook_response", landfall_fuzz::hook_response),
    ("hook_transport", landfall_fuzz::hook_transport),
    ("http2", landfall_fuzz::http2),
    ("info", landfall_fuzz::info),
    ("location", landfall_fuzz::location),
    ("metadata", landfall_fuzz::metadata),
    ("part_url", landfall_fuzz::part_url),
    ("pipeline", landfall_fuzz::pipeline),
    ("range", landfall_fuzz::range),
    ("request", landfall_fuzz::request),
    ("request_head", landfall_fuzz::request_head),
    ("s3_event", landfall_fuzz::s3_event),
    ("s3_response", landfall_fuzz::s3_response),
    ("stored_rows", landfall_fuzz::stored_rows),
    ("trailers", landfall_fuzz::trailers),
    ("upload_id", landfall_fuzz::upload_id),
];

fn names(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_file_seeds_and_a_dictionary() {
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names("libfuzzer/src/bin"), targets);
    assert_eq!(names("seeds"), targets);
    assert_eq!(names("dictionaries"), targets);
}

#[test]
fn every_file_passes_the_input_to_its_target() {
    for (name, _) in TARGETS {
        let file = format!("libfuzzer/src/bin/{name}.rs");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let code = format!(
            "//! Fuzzes `landfall_fuzz::{name}`.\n#![no_main]\n\n\
             libfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_fuzz::{name}(data));\n"
        );
        assert_eq!(fs::read_to_string(file).unwrap(), code);
    }
}

#[test]
fn seeds_hold_the_properties() {
    for (name, property) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let mut seeds = 0;
        for seed in fs::read_dir(&folder).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            property(&fs::read(&path).unwrap());
            seeds += 1;
        }
        assert!(seeds >= 5, "{name} has {seeds} seeds");
    }
}
