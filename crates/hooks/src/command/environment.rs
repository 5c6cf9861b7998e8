use std::ffi::{OsStr, OsString};

use landfall_messages::Message;

/// Landfall's settings may be keys, passwords or URLs that contain them. All other variables are
/// inherited, as with tusd.
pub(super) fn excluded() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_excluded(name)).collect()
}

fn is_excluded(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"LANDFALL_")
}

pub(super) fn variables(message: &Message) -> Vec<(String, String)> {
    let upload = &message.upload;
    let mut variables = vec![
        ("TUS_ID".to_owned(), upload.id.clone()),
        (
            "TUS_SIZE".to_owned(),
            upload.size.unwrap_or_default().to_string(),
        ),
        ("TUS_OFFSET".to_owned(), upload.offset.to_string()),
        ("LANDFALL_HOOK".to_owned(), message.hook.to_string()),
        ("LANDFALL_EVENT_ID".to_owned(), message.id.clone()),
        ("LANDFALL_SEQUENCE".to_owned(), message.sequence.to_string()),
    ];
    if let Some(intent) = message.intent {
        variables.push(("LANDFALL_INTENT".to_owned(), intent.as_str().to_owned()));
    }
    let labels = upload.labels.iter();
    variables.extend(labels.map(|(key, value)| {
        // A NUL ends the value, and the command would not start.
        (label(key), value.replace('\0', "\u{fffd}"))
    }));
    variables
}

/// Each character other than a letter or digit becomes `_`.
fn label(key: &str) -> String {
    let spell = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    format!(
        "LANDFALL_LABEL_{}",
        key.chars().map(spell).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_landfall_are_excluded() {
        for name in ["LANDFALL_ADMIN_KEY", "LANDFALL_DATABASE", "LANDFALL_"] {
            assert!(is_excluded(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "AWS_SECRET_ACCESS_KEY", "MY_LANDFALL_X", "LANDFALL"] {
            assert!(!is_excluded(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn label_names_are_valid_in_a_shell() {
        assert_eq!(label("tenant"), "LANDFALL_LABEL_TENANT");
        assert_eq!(label("virus-scan.2"), "LANDFALL_LABEL_VIRUS_SCAN_2");
        assert_eq!(label("a=b\0ä"), "LANDFALL_LABEL_A_B__");
    }
}
