//! `Upload-Concat` (tus 1.0.0, Concatenation).

/// A parsed `Upload-Concat` of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concat {
    /// A partial upload.
    Partial,
    /// A final upload.
    Final {
        /// The URLs of its parts, absolute or relative, as received.
        urls: Vec<String>,
        /// The header as received, for HEAD (`tus/concatenation/final-upload-has-upload-concat`).
        header: String,
    },
}

/// A reason why an `Upload-Concat` is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConcat {
    /// Neither `partial` nor `final;…`.
    #[error("the value must be `partial` or `final;` and the URLs of the partial uploads")]
    Syntax,
    /// `final;` with nothing after it.
    #[error("a final upload needs the URL of at least one partial upload")]
    NoParts,
    /// More parts than [`Concat::MAX_PARTS`].
    #[error("a final upload takes at most {max} partial uploads", max = Concat::MAX_PARTS)]
    TooMany,
}

impl Concat {
    /// Maximum number of parts of a final upload.
    pub const MAX_PARTS: usize = 10_000;

    /// Parses the value of the header.
    ///
    /// # Errors
    /// [`InvalidConcat`].
    pub fn parse(value: &str) -> Result<Self, InvalidConcat> {
        if value == "partial" {
            return Ok(Self::Partial);
        }
        let list = value.strip_prefix("final;").ok_or(InvalidConcat::Syntax)?;
        let urls: Vec<String> = list
            .split([' ', '\t'])
            .filter(|url| !url.is_empty())
            .map(Into::into)
            .collect();
        match urls.len() {
            0 => Err(InvalidConcat::NoParts),
            n if n > Self::MAX_PARTS => Err(InvalidConcat::TooMany),
            _ => Ok(Self::Final {
                urls,
                header: value.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_forms() {
        assert_eq!(Concat::parse("partial"), Ok(Concat::Partial));
        let header = "final; /files/a  http://h/files/b";
        let Ok(Concat::Final { urls, header: kept }) = Concat::parse(header) else {
            panic!()
        };
        assert_eq!(urls, ["/files/a", "http://h/files/b"]);
        assert_eq!(kept, header);
    }

    #[test]
    fn rejects_other_values() {
        for bad in ["", "Partial", "final", "partial;", "final:/a"] {
            assert_eq!(Concat::parse(bad), Err(InvalidConcat::Syntax), "{bad:?}");
        }
        assert_eq!(Concat::parse("final; "), Err(InvalidConcat::NoParts));
        let many = format!("final;{}", "/a ".repeat(Concat::MAX_PARTS + 1));
        assert_eq!(Concat::parse(&many), Err(InvalidConcat::TooMany));
    }
}
