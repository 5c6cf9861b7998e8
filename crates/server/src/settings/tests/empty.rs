//! An empty text, which most often comes from a variable that a script or a compose file didn't fill in.

use super::super::instructions::INSTRUCTIONS;
use super::super::table::{Kind, settings};
use super::*;

/// The settings for which nothing is a value, and what it means.
const MAY_BE_EMPTY: &[&str] = &[
    // Nobody is trusted.
    "trusted-proxies",
    // Nothing is added to the built-in lists.
    "cors-allow-methods",
    "cors-allow-headers",
    "cors-expose-headers",
    // tusd's seven events, as in tusd.
    "hooks-enabled-events",
    // No header is sent on.
    "hooks-http-forward-headers",
    "hooks-grpc-forward-headers",
    // No redirect may lead to a private network.
    "hooks-http-redirect-allow",
    // AMQP's default exchange has no name.
    "hooks-amqp-exchange",
    // No other origin may ask with cookies.
    "grants-allowed-origins",
    // Nothing stands before the paths.
    "direct-path",
];

#[test]
fn every_setting_that_needs_a_value_refuses_an_empty_one_wherever_it_comes_from() {
    for setting in settings() {
        let name = setting.name;
        let mut nothing = vec![String::new()];
        if matches!(setting.kind, Kind::List(_)) {
            nothing.extend([" ".to_owned(), " , ".to_owned()]);
        }
        for text in nothing {
            let flag = format!("-{name}={text}");
            let variable = (setting.variable(), text.clone());
            let (_file, file) = file(&format!("{name} = {text:?}"));
            let came = [
                run(&[&flag], &[]),
                run(&[], &[(&variable.0, &variable.1)]),
                run(&["-config", &file], &[]),
            ];
            for came in came {
                if MAY_BE_EMPTY.contains(&name) {
                    came.unwrap();
                    continue;
                }
                let told = came.unwrap_err().to_string();
                let places = [
                    &format!("-{name}"),
                    &variable.0,
                    &format!("{file}:1: {name}"),
                ];
                let begins = places
                    .iter()
                    .any(|place| told.starts_with(&format!("landfall: {place}: is empty; write ")));
                assert!(begins, "{name}: {told}");
            }
        }
    }
}

#[test]
fn an_empty_flag_beside_a_command_does_not_mean_everything() {
    for instruction in INSTRUCTIONS {
        if instruction.placeholder.is_none() {
            continue;
        }
        let flag = format!("-{}=", instruction.names[0]);
        let told = problems(&["events", "list", &flag], &[]).join("\n");
        assert!(
            told.contains(&format!("-{}: is empty", instruction.names[0])),
            "{told}"
        );
    }
    let told = problem(&["events", "delete", "-all", "-transport="]);
    assert!(told.starts_with("-transport: is empty"), "{told}");
    let told = problem(&["keys", "add", "a", "-max-size="]);
    assert!(told.starts_with("-max-size: is empty"), "{told}");
    let told = problems(&[], &[("LANDFALL_CONFIG", "")]).join("\n");
    assert!(told.starts_with("LANDFALL_CONFIG: is empty"), "{told}");
}

#[test]
fn an_empty_flag_of_tusd_that_is_missing_here_is_refused() {
    // A server that was to speak TLS doesn't go without because a variable is missing.
    let told = problem(&["-tls-certificate="]);
    assert!(told.contains("no TLS yet"), "{told}");
    loaded(&["-tls-mode=tls12", "-expose-pprof=false"], &[]);
}
