//! Types of files, and patterns of them.

/// Whether a type (`image/png; q=1`; parameters don't count) is one that `pattern` names: itself,
/// `image/*` or `*/*`, in whatever case.
#[must_use]
pub fn is_of_type(stated: &str, pattern: &str) -> bool {
    let essence = stated.split(';').next().unwrap_or_default().trim();
    let pattern = pattern.trim();
    match pattern.strip_suffix("/*") {
        Some("*") => true,
        Some(family) => essence
            .split_once('/')
            .is_some_and(|(is, _)| is.eq_ignore_ascii_case(family)),
        None => essence.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::is_of_type;

    #[test]
    fn patterns_name_types() {
        for (stated, pattern) in [
            ("image/png", "image/png"),
            ("IMAGE/PNG; q=1", " image/png "),
            ("image/png", "Image/*"),
            ("anything", "*/*"),
            ("image/*", "image/*"),
        ] {
            assert!(is_of_type(stated, pattern), "{stated} {pattern}");
        }
        for (stated, pattern) in [
            ("image/png", "image/gif"),
            ("imagex/png", "image/*"),
            ("image", "image/*"),
            ("image/*", "image/png"),
            ("", "image/png"),
        ] {
            assert!(!is_of_type(stated, pattern), "{stated} {pattern}");
        }
    }
}
