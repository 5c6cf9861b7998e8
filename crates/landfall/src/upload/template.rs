//! Names of files and objects from a template, such as `{date}/{id}-{filename}`.
//!
//! A client must not choose a directory: a value has no slash and is not `.` or `..`.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Upload;

const MAX_VALUE_BYTES: usize = 200;

impl Upload {
    /// Fills in a template: `{id}`, `{date}` (`yyyy/mm/dd` of `now`), `{filename}` and `{meta:NAME}`, which are values
    /// of the metadata, or `_` without one.
    ///
    /// # Errors
    /// An unknown field, or a brace without its other half.
    pub fn fill(&self, template: &str, now: SystemTime) -> Result<String, String> {
        let mut name = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((field, after)) = after.split_once('}') else {
                return Err(format!("invalid template {template:?}: {{ without }}"));
            };
            name.push_str(before);
            rest = after;
            match (field, field.strip_prefix("meta:")) {
                ("id", _) => name.push_str(self.id.as_str()),
                ("date", _) => name.push_str(&date(now)),
                ("filename", _) => name.push_str(&self.plain(field)),
                (_, Some(field)) => name.push_str(&self.plain(field)),
                (_, None) => {
                    return Err(format!(
                        "the template {template:?} has {{{field}}}; there are {{id}}, {{date}}, \
                         {{filename}} and {{meta:NAME}}"
                    ));
                }
            }
        }
        name.push_str(rest);
        Ok(name)
    }

    fn plain(&self, field: &str) -> String {
        let text = self.metadata.get_text(field).unwrap_or_default();
        let is_special = |c: char| matches!(c, '/' | '\\') || c.is_control();
        let mut plain = text.replace(is_special, "_");
        plain.truncate(plain.floor_char_boundary(MAX_VALUE_BYTES));
        if matches!(plain.as_str(), "" | "." | "..") {
            plain = "_".into();
        }
        plain
    }
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
        let fill = |template| upload.fill(template, UNIX_EPOCH);
        assert_eq!(fill("x/{id}-{filename}").unwrap(), "x/abc-.._a_b_");
        assert_eq!(fill("{meta:dots}/{meta:none}").unwrap(), "_/_");
        assert_eq!(fill("{meta:long}").unwrap(), "é".repeat(100));
        for wrong in ["{", "{id", "{what}", "{meta}"] {
            fill(wrong).unwrap_err();
        }
    }
}
