//! The file name of `Content-Disposition` (RFC 6266).

use percent_encoding::percent_decode_str;

/// Returns the file name without directories: `filename*` (RFC 8187) before `filename`.
pub(super) fn file_name(text: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    let (_, mut rest) = text.split_once(';')?;
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']);
        let (value, after) = parameter_value(value.trim_start())?;
        match name.to_ascii_lowercase().as_str() {
            "filename" => plain = plain.or(Some(value)),
            "filename*" => extended = extended.or_else(|| decode(&value)),
            _ => {}
        }
        rest = after;
    }
    let name = extended.or(plain)?;
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns a value, a token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_once(';').unwrap_or((text, ""));
        return Some((value.trim_end().to_owned(), after));
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !is_escaped => {
                is_escaped = true;
                continue;
            }
            '"' if !is_escaped => return Some((value, &quoted[at + 1..])),
            _ => value.push(c),
        }
        is_escaped = false;
    }
    None
}

fn decode(text: &str) -> Option<String> {
    let (charset, rest) = text.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    let decoded = percent_decode_str(encoded);
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => decoded.decode_utf8().ok().map(Into::into),
        "iso-8859-1" => Some(decoded.map(char::from).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_found() {
        for (text, name) in [
            ("inline; filename=a.bin", "a.bin"),
            ("attachment; filename=\"a b.txt\"", "a b.txt"),
            (r#"inline; x=1; filename="a\"b;c.txt" ; y=2"#, "a\"b;c.txt"),
            (
                "inline; filename=x.txt; filename*=UTF-8''%e2%82%ac%20rates",
                "€ rates",
            ),
            (
                "inline; filename*=iso-8859-1'en'%A3.txt;filename=y",
                "£.txt",
            ),
            ("inline; FileName=\"../../etc/passwd\"", "passwd"),
            (r#"inline; filename="C:\\dir\\a.doc""#, "a.doc"),
            ("inline; filename*=utf-16''%00a; filename=z", "z"),
        ] {
            assert_eq!(file_name(text).as_deref(), Some(name), "{text}");
        }
        for none in [
            "inline",
            "",
            "inline; filename=\"",
            "inline; filename=",
            "inline; name=a",
            "inline; filename=\"a/\"",
        ] {
            assert_eq!(file_name(none), None, "{none:?}");
        }
    }
}
