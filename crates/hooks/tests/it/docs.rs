//! Checks the samples in docs/hooks.md and tests/samples.md.

use std::{env, fs, path::Path};

use landfall_hooks::format::{Format, body, cloud_event};
use landfall_hooks::{HookName, Message};

use crate::samples::samples;

const BEGIN: &str = "<!-- samples: begin -->\n";
const END: &str = "<!-- samples: end -->\n";

#[test]
fn docs_contain_the_current_samples() {
    let samples = samples();
    assert_contains("../../docs/hooks.md", &for_readers(&samples));
    assert_contains("tests/samples.md", &of_each_name(&samples));
}

fn assert_contains(page: &str, section: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let made = format!("{before}{BEGIN}{section}{END}{after}");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == made,
        "the samples in {page} are outdated; update them with UPDATE_GOLDEN=1"
    );
}

fn block(title: &str, json: &str) -> String {
    format!("{title}\n\n```json\n{json}\n```\n\n")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn named(samples: &[Message], name: HookName) -> &Message {
    samples.iter().find(|sample| sample.hook == name).unwrap()
}

fn for_readers(samples: &[Message]) -> String {
    let finish = body(Format::V2, named(samples, HookName::PostFinish));
    block(
        "An event in the format `v2`, indented for reading (on the wire it is one line):",
        &indented(&text(finish)),
    )
}

fn of_each_name(samples: &[Message]) -> String {
    let finish = named(samples, HookName::PostFinish);
    let each: Vec<_> = samples
        .iter()
        .map(|sample| text(body(Format::V2, sample)))
        .collect();
    block(
        "`post-finish` in the format `auto`, which is `v2` and `v1` in one object:",
        &text(body(Format::Auto, finish)),
    ) + &block(
        "The same event as a CloudEvent for brokers:",
        &text(cloud_event(finish, "https://uploads.example.com")),
    ) + &block(
        "One message per name, in the format `v2`:",
        &each.join("\n"),
    )
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
                if out.trim_end().ends_with('{') {
                    out.truncate(out.trim_end().len());
                    out.push('}');
                } else {
                    out += &format!("{}}}", line(depth));
                }
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
