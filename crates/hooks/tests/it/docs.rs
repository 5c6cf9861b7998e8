//! Checks the samples in docs/hooks.md.

use std::{env, fmt::Write, fs, path::Path};

use landfall_hooks::HookName;
use landfall_hooks::format::{Format, body, cloud_event};

use crate::samples::samples;

const BEGIN: &str = "<!-- samples: begin -->\n";
const END: &str = "<!-- samples: end -->\n";

#[test]
fn docs_contain_the_current_samples() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let made = format!("{before}{BEGIN}{}{END}{after}", section());
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == made,
        "the samples in docs/hooks.md are outdated; update them with UPDATE_GOLDEN=1"
    );
}

fn section() -> String {
    let samples = samples();
    let finish = samples
        .iter()
        .find(|sample| sample.hook == HookName::PostFinish)
        .unwrap();
    let mut out = String::new();
    let mut block = |title: &str, json: &str| {
        write!(out, "{title}\n\n```json\n{json}\n```\n\n").unwrap();
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    block(
        "An event in the format `v2`, indented for reading (on the wire it is one line):",
        &indented(&text(body(Format::V2, finish))),
    );
    block(
        "The same event in the format `auto`, which is `v2` and `v1` in one object:",
        &text(body(Format::Auto, finish)),
    );
    block(
        "The same event as a CloudEvent for brokers:",
        &text(cloud_event(finish, "https://uploads.example.com")),
    );
    let each: Vec<_> = samples
        .iter()
        .map(|sample| text(body(Format::V2, sample)))
        .collect();
    block(
        "One message per name, in the format `v2`:",
        &each.join("\n"),
    );
    out
}

/// Indents JSON in its order; lists stay on one line.
fn indented(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut lists, mut quoted, mut escaped) = (0_usize, 0_usize, false, false);
    for c in json.chars() {
        let was_quoted = quoted;
        quoted ^= c == '"' && !escaped;
        escaped = was_quoted && c == '\\' && !escaped;
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match c {
            _ if quoted || was_quoted => out.push(c),
            '{' => {
                depth += 1;
                out += &format!("{{{}", line(depth));
            }
            '}' => {
                depth -= 1;
                out += &format!("{}}}", line(depth));
            }
            ',' if lists == 0 => out += &format!(",{}", line(depth)),
            ':' => out += ": ",
            _ => {
                lists = match c {
                    '[' => lists + 1,
                    ']' => lists - 1,
                    _ => lists,
                };
                out.push(c);
            }
        }
    }
    out
}
