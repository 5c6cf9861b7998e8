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
}
