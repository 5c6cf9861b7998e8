//! As much of JSON as the benchmark's own texts need.

/// The first text under a name in JSON without spaces; it ends at a quotation mark, which none of
/// the benchmark's own texts holds.
pub(crate) fn text<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    Some(rest.split_once('"')?.0)
}

/// The first whole number under a name in JSON without spaces.
pub(crate) fn number(json: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let end = rest.find(|one: char| !one.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// All texts of the first object under a name in JSON without spaces, in order; `None` if there is none,
/// or it holds anything else.
pub(crate) fn texts(json: &str, name: &str) -> Option<Vec<(String, String)>> {
    let (_, mut rest) = json.split_once(&format!("\"{name}\":{{"))?;
    let mut found = Vec::new();
    while !rest.starts_with('}') {
        let (name, after) = quoted(rest.strip_prefix(',').unwrap_or(rest))?;
        let (value, after) = quoted(after.strip_prefix(':')?)?;
        found.push((name.into(), value.into()));
        rest = after;
    }
    Some(found)
}

/// A text without anything that is written with a backslash, and what comes after it.
fn quoted(json: &str) -> Option<(&str, &str)> {
    let (text, rest) = json.strip_prefix('"')?.split_once('"')?;
    (!text.contains('\\')).then_some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        let json = r#"{"at":"noon","size":70,"offset":null,"name":""}"#;
        assert_eq!(text(json, "at"), Some("noon"));
        assert_eq!(text(json, "name"), Some(""));
        assert_eq!(number(json, "size"), Some(70));
        assert_eq!((text(json, "size"), number(json, "offset")), (None, None));
    }

    #[test]
    fn finds_all_texts_of_an_object() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let json =
            r#"{"fields":{"key":"a/b","empty":""},"none":{},"mixed":{"a":1},"odd":{"a":"\""}}"#;
        let fields = vec![pair("key", "a/b"), pair("empty", "")];
        assert_eq!(texts(json, "fields"), Some(fields));
        assert_eq!(texts(json, "none"), Some(Vec::new()));
        for name in ["mixed", "odd", "missing"] {
            assert_eq!(texts(json, name), None);
        }
    }
}
