//! Names of files and objects from a template, such as `{date}/{id}-{filename}`.
//!
//! A client must not choose a directory: a value has no slash and is not `.` or `..`. A name that would be too long is
//! made of shorter values, since the client can change neither the template nor the limits of the store.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Upload;

const MAX_VALUE_BYTES: usize = 200;
/// With its dot. A longer one is the rest of a sentence.
const MAX_EXTENSION_BYTES: usize = 20;

/// A part of a name.
#[derive(Debug)]
enum Piece {
    Fixed(String),
    /// A value of the metadata, which may be shortened.
    Value(String),
    /// Ends a segment.
    Slash,
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Fixed(text) | Self::Value(text) => text.len(),
            Self::Slash => 1,
        }
    }
}

impl Upload {
    /// Fills in a template: `{id}`, `{date}` (`yyyy/mm/dd` of `now`), `{filename}` and `{meta:NAME}`, which are values
    /// of the metadata, or `_` without one.
    ///
    /// The values are shortened, each as [`truncate_file_name`] does it, until the result has at most `max_len` bytes,
    /// and `max_segment` between two slashes. Id, date and the template itself are never shortened.
    ///
    /// # Errors
    /// An unknown field, or a brace without its other half.
    pub fn fill(
        &self,
        template: &str,
        now: SystemTime,
        max_segment: usize,
        max_len: usize,
    ) -> Result<String, String> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((field, after)) = after.split_once('}') else {
                return Err(format!("invalid template {template:?}: {{ without }}"));
            };
            push_fixed(&mut pieces, before);
            rest = after;
            match (field, field.strip_prefix("meta:")) {
                ("id", _) => push_fixed(&mut pieces, self.id.as_str()),
                ("date", _) => push_fixed(&mut pieces, &date(now)),
                ("filename", _) => pieces.push(Piece::Value(self.plain(field))),
                (_, Some(field)) => pieces.push(Piece::Value(self.plain(field))),
                (_, None) => {
                    return Err(format!(
                        "the template {template:?} has {{{field}}}; there are {{id}}, {{date}}, \
                         {{filename}} and {{meta:NAME}}"
                    ));
                }
            }
        }
        push_fixed(&mut pieces, rest);
        for segment in pieces.split_mut(|piece| matches!(piece, Piece::Slash)) {
            shorten(segment, max_segment);
        }
        shorten(&mut pieces, max_len);
        let text = |piece: &Piece| match piece {
            Piece::Fixed(text) | Piece::Value(text) => text.clone(),
            Piece::Slash => "/".into(),
        };
        Ok(pieces.iter().map(text).collect())
    }

    fn plain(&self, field: &str) -> String {
        let text = self.metadata.get_text(field).unwrap_or_default();
        let is_special = |c: char| matches!(c, '/' | '\\') || c.is_control();
        let plain = text.replace(is_special, "_");
        usable(truncate_file_name(&plain, MAX_VALUE_BYTES).into_owned())
    }
}

fn push_fixed(pieces: &mut Vec<Piece>, text: &str) {
    for (at, part) in text.split('/').enumerate() {
        if at > 0 {
            pieces.push(Piece::Slash);
        }
        pieces.push(Piece::Fixed(part.to_owned()));
    }
}

/// Shortens the longest values first: they lose least by it.
fn shorten(pieces: &mut [Piece], max: usize) {
    loop {
        let len: usize = pieces.iter().map(Piece::len).sum();
        let values = pieces.iter_mut().filter_map(|piece| match piece {
            Piece::Value(text) if text.len() > 1 => Some(text),
            _ => None,
        });
        let (true, Some(longest)) = (len > max, values.max_by_key(|text| text.len())) else {
            return;
        };
        let most = longest.len().saturating_sub(len - max);
        // Not all from one value, if there are others.
        let most = most.max(longest.len() / 2);
        *longest = usable(truncate_file_name(longest, most).into_owned());
    }
}

fn usable(name: String) -> String {
    match name.as_str() {
        "" | "." | ".." => "_".into(),
        _ => name,
    }
}

/// Shortens a file name to a number of bytes, and keeps its extension if that is short.
///
/// It is cut between characters that people see as two, as far as a short list of marks tells.
#[must_use]
pub fn truncate_file_name(name: &str, max: usize) -> Cow<'_, str> {
    if name.len() <= max {
        return name.into();
    }
    let dot = name.rfind('.').filter(|dot| *dot > 0);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    match extension.len() {
        1..=MAX_EXTENSION_BYTES => match cut(stem, max.saturating_sub(extension.len())) {
            "" => cut(name, max).into(),
            stem => [stem, extension].concat().into(),
        },
        _ => cut(name, max).into(),
    }
}

/// Cuts before a character that changes the one before it, together with that one.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.floor_char_boundary(max);
    let continues = |end: usize| {
        let (before, after) = text.split_at(end);
        let is_joined = before.ends_with(ZERO_WIDTH_JOINER);
        is_joined || after.starts_with(modifies_previous)
    };
    while end > 0 && continues(end) {
        end = text.floor_char_boundary(end - 1);
    }
    match end {
        // Marks alone.
        0 => &text[..text.floor_char_boundary(max)],
        end => &text[..end],
    }
}

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Accents as macOS stores them, and parts of emoji.
fn modifies_previous(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}'
        | '\u{3099}'..='\u{309a}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{1f3fb}'..='\u{1f3ff}'
        | ZERO_WIDTH_JOINER
    )
}

fn date(now: SystemTime) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // Sun, 06 Nov 1994 08:49:37 GMT
    let text = httpdate::fmt_http_date(now.max(UNIX_EPOCH));
    let month = MONTHS.find(&text[8..11]).map_or(1, |at| at / 3 + 1);
    format!("{}/{month:02}/{}", &text[12..16], &text[5..7])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upload::{Metadata, UploadId};

    #[test]
    fn dates() {
        for (days, text) in [
            (0, "1970/01/01"),
            (59, "1970/03/01"),
            (11_016, "2000/02/29"),
            (11_017, "2000/03/01"),
            (20_777, "2026/11/20"),
        ] {
            assert_eq!(
                date(UNIX_EPOCH + Duration::from_secs(days * 86_400 + 5)),
                text
            );
        }
    }

    #[test]
    fn values_of_clients_name_no_directory() {
        let mut upload = Upload::new(UploadId::new("abc").unwrap(), None);
        let long = "é".repeat(150);
        let pairs = [
            ("filename", "../a\\b\n"),
            ("dots", ".."),
            ("long", long.as_str()),
        ];
        upload.metadata = Metadata::from_pairs(pairs);
        let fill = |template| upload.fill(template, UNIX_EPOCH, usize::MAX, usize::MAX);
        assert_eq!(fill("x/{id}-{filename}").unwrap(), "x/abc-.._a_b_");
        assert_eq!(fill("{meta:dots}/{meta:none}").unwrap(), "_/_");
        assert_eq!(fill("{meta:long}").unwrap(), "é".repeat(100));
        for wrong in ["{", "{id", "{what}", "{meta}"] {
            fill(wrong).unwrap_err();
        }
    }
    #[test]
    fn long_names_are_cut_at_a_character_and_keep_their_extension() {
        for (name, max, short) in [
            ("photo.jpeg", 10, "photo.jpeg"),
            ("photo.jpeg", 9, "phot.jpeg"),
            ("写真写真.png", 12, "写真.png"),
            ("写真写真.png", 5, "写"),
            ("archive.tar.gz", 8, "archi.gz"),
            (".bashrc-of-someone", 7, ".bashrc"),
            ("no extension", 4, "no e"),
            ("a.extension-of-21-bytes", 6, "a.exte"),
            ("a.jpg", 3, "a.j"),
            ("a.jpg", 0, ""),
            // An accent of its own, as macOS stores it; a family; a hand with its color.
            ("abe\u{301}.txt", 7, "ab.txt"),
            ("x👩\u{200d}👧.txt", 12, "x.txt"),
            ("x👋\u{1f3fd}", 5, "x"),
            ("\u{301}\u{301}\u{301}", 4, "\u{301}\u{301}"),
        ] {
            let cut = truncate_file_name(name, max);
            assert_eq!(cut, short, "{name} {max}");
            assert!(cut.len() <= max, "{name} {max}");
        }
    }

    #[test]
    fn a_name_fits_into_the_limits_of_the_store() {
        let mut upload = Upload::new(UploadId::new("0123456789").unwrap(), None);
        let long = ["x".repeat(250), "写".repeat(80), "🎉".repeat(60)];
        for name in &long {
            let name = format!("{name}.jpeg");
            let extension = format!("a.{name}");
            let dots = ".".repeat(300);
            let pairs = [
                ("filename", name.as_str()),
                ("other", extension.as_str()),
                ("dots", dots.as_str()),
            ];
            upload.metadata = Metadata::from_pairs(pairs);
            for template in [
                "{date}/{id}-{filename}",
                "{filename}-{id}",
                "{meta:other}{filename}/{meta:dots}{filename}",
                "{filename}{filename}{filename}{filename}-{id}/{filename}/{id}",
                "{id}",
                "{id}/{meta:dots}",
            ] {
                for (segment, len) in [(228, 4000), (100, 4000), (usize::MAX, 150), (60, 90)] {
                    let filled = upload.fill(template, UNIX_EPOCH, segment, len).unwrap();
                    assert!(filled.len() <= len, "{template}: {filled}");
                    for name in filled.split('/') {
                        assert!((1..=segment).contains(&name.len()), "{template}: {filled}");
                    }
                }
            }
            let filled = upload.fill("{id}-{filename}", UNIX_EPOCH, 100, 1000);
            let filled = filled.unwrap();
            assert!(filled.starts_with("0123456789-") && filled.ends_with(".jpeg"));
            assert!(filled.len() > 95, "{filled}");
        }
    }
}
