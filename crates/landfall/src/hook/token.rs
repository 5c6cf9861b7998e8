//! Takes the upload token out of a request before it is logged, stored, or passed to hooks.
//!
//! Only values with the prefix `lft_` are taken: others belong to the application. Whether a token is valid is not
//! decided here. Its `Debug` form must not contain it.

use std::{fmt, sync::LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use landfall_protocol::{FieldNames, Fields, Metadata, headers};
use memchr::memmem;

const UPLOAD_TOKEN: HeaderName = HeaderName::from_static("upload-token");
/// Metadata keys of the token. Both contain `token`.
const KEYS: [&str; 2] = ["token", "upload_token"];
static FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(KEYS[0]));

/// A secret that authorizes the creation of an upload.
///
/// A client sends it in the header `Upload-Token`, as `Authorization: Bearer lft_…`, or in the metadata
/// as `upload_token` or `token`. It is removed from the request first, so that hooks, events, stored
/// uploads, responses and logs never contain it. Other values of these names stay: they are tokens of
/// the application, which its own hooks check.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadToken(String);

impl UploadToken {
    /// The prefix of tokens of Landfall's grants.
    pub const PREFIX: &str = "lft_";

    /// Creates the token of a grant, which a client cannot send itself.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Returns the token as the client sent it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Removes the token from the headers of a request and returns it.
    ///
    /// The dedicated header takes precedence, then the metadata, then the bearer token.
    #[must_use]
    pub fn extract(headers: &mut HeaderMap) -> Option<Self> {
        let names = Fields::new(headers).names();
        Self::extract_named(headers, names)
    }

    /// See [`Self::extract`]; the names are those of the headers.
    pub(crate) fn extract_named(headers: &mut HeaderMap, names: FieldNames) -> Option<Self> {
        let fields = Fields::with_names(headers, names);
        let own = fields.could_have(&UPLOAD_TOKEN);
        let bearer = fields.could_have(&header::AUTHORIZATION);
        let stated = fields.could_have(&headers::UPLOAD_METADATA);
        let own = own.then(|| extract_from(headers, &UPLOAD_TOKEN, in_own));
        let bearer = bearer.then(|| extract_from(headers, &header::AUTHORIZATION, in_bearer));
        let stated = stated.then(|| extract_from(headers, &headers::UPLOAD_METADATA, in_metadata));
        let [own, stated, bearer] = [own, stated, bearer].map(Option::flatten);
        own.or(stated).or(bearer).map(Self)
    }
}

impl fmt::Debug for UploadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadToken(..)")
    }
}

/// Removes the tokens from all lines of a field, and returns the first. `find` returns the token of a line, and what is
/// left of the line.
fn extract_from(
    headers: &mut HeaderMap,
    name: &HeaderName,
    find: impl Fn(&HeaderValue) -> Option<(String, Option<HeaderValue>)>,
) -> Option<String> {
    let (token, _) = headers.get_all(name).iter().find_map(&find)?;
    let rest = |line: &HeaderValue| find(line).map_or_else(|| Some(line.clone()), |(_, rest)| rest);
    let rest: Vec<_> = headers.get_all(name).iter().filter_map(rest).collect();
    headers.remove(name);
    for line in rest {
        headers.append(name, line);
    }
    Some(token)
}

fn token_of(text: &str) -> Option<String> {
    let token = text.trim();
    token.starts_with(UploadToken::PREFIX).then(|| token.into())
}

fn in_own(line: &HeaderValue) -> Option<(String, Option<HeaderValue>)> {
    Some((token_of(line.to_str().ok()?)?, None))
}

fn in_bearer(line: &HeaderValue) -> Option<(String, Option<HeaderValue>)> {
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    Some((token_of(token).filter(|_| is_bearer)?, None))
}

/// All other pairs stay as they are, malformed ones as well: whether they are rejected is decided later.
fn in_metadata(line: &HeaderValue) -> Option<(String, Option<HeaderValue>)> {
    // Nearly all metadata has no token, and is parsed only once, later.
    FINDER.find(line.as_bytes())?;
    let mut tokens = KEYS.map(|_| None);
    let is_other = |pair: &&[u8]| {
        let pair = std::str::from_utf8(pair).ok();
        let pair = pair.and_then(|pair| Metadata::from_header(pair).ok());
        let found = KEYS.iter().zip(&mut tokens).find_map(|(key, token)| {
            let text = pair.as_ref()?.get_text(key)?;
            *token = Some(token_of(&text)?);
            Some(())
        });
        found.is_none()
    };
    let pairs = line.as_bytes().split(|byte| *byte == b',');
    let rest = pairs.filter(is_other).collect::<Vec<_>>().join(&b',');
    let [token, upload_token] = tokens;
    let rest = HeaderValue::from_bytes(&rest).ok();
    Some((
        upload_token.or(token)?,
        rest.filter(|rest| !rest.is_empty()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pairs: &[(&str, &str)]) -> (Option<String>, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = match *name {
                "upload-metadata" => {
                    let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
                    Metadata::from_pairs(pairs).header().to_owned()
                }
                _ => (*value).to_owned(),
            };
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let token = UploadToken::extract(&mut headers);
        (token.map(|token| token.as_str().to_owned()), headers)
    }

    fn metadata(headers: &HeaderMap) -> Option<Metadata> {
        let value = headers.get(headers::UPLOAD_METADATA)?.to_str().unwrap();
        Some(Metadata::from_header(value).unwrap())
    }

    #[test]
    fn is_taken_out_wherever_it_travels() {
        for pair in [
            ("upload-token", "lft_x"),
            ("authorization", "bearer  lft_x"),
            ("upload-metadata", "token=lft_x"),
            ("upload-metadata", "upload_token=lft_x"),
        ] {
            let (token, headers) = taken(&[pair]);
            assert_eq!(token.as_deref(), Some("lft_x"), "{pair:?}");
            assert!(headers.is_empty(), "{headers:?}");
        }
        let all = [
            ("upload-token", "lft_one"),
            ("authorization", "Bearer lft_two"),
            (
                "upload-metadata",
                "token=lft_three,upload_token=lft_four,filename=a",
            ),
        ];
        let (token, headers) = taken(&all);
        assert_eq!(token.as_deref(), Some("lft_one"));
        assert_eq!(headers.len(), 1);
        assert_eq!(
            metadata(&headers),
            Some(Metadata::from_pairs([("filename", "a")]))
        );
    }

    #[test]
    fn is_taken_out_of_every_line_and_beside_malformed_pairs() {
        let mut headers = HeaderMap::new();
        // `lft_x`; the rest is malformed, which `--compat tusd` accepts.
        let pairs = b"filename ?,upload_token bGZ0X3g=,a\xffb,,token bGZ0X3k=";
        let pairs = HeaderValue::from_bytes(pairs).unwrap();
        headers.append(headers::UPLOAD_METADATA, pairs);
        for (name, value) in [
            ("authorization", "Basic eA=="),
            ("authorization", "Bearer lft_z"),
            ("authorization", "Bearer lft_z"),
            ("upload-token", "other"),
            ("upload-token", "lft_z"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let tokens = [(); 3].map(|()| UploadToken::extract(&mut headers));
        let wanted = Some(UploadToken::new("lft_z"));
        assert_eq!(tokens, [wanted, None, None]);
        let lines = |name: &str| {
            let lines = headers.get_all(name).iter();
            lines.map(HeaderValue::as_bytes).collect::<Vec<_>>()
        };
        assert_eq!(lines("upload-metadata"), [&b"filename ?,a\xffb,"[..]]);
        assert_eq!(lines("authorization"), [b"Basic eA=="]);
        assert_eq!(lines("upload-token"), [b"other"]);
    }

    #[test]
    fn other_credentials_are_kept() {
        for pair in [
            ("authorization", "Bearer eyJ"),
            ("authorization", "Basic lft_x"),
            ("upload-metadata", "token=csrf,filename=a"),
            // Of a queue of the application's own.
            ("upload-metadata", "token=other,upload_request_id=7"),
            ("upload-metadata", "upload_token=other"),
            ("upload-token", "other"),
        ] {
            let (token, headers) = taken(&[pair]);
            assert_eq!(token, None, "{pair:?}");
            assert_eq!(headers.len(), 1);
        }
        // One of a grant is taken out of such metadata.
        let both = "token=other,upload_token=lft_x,upload_request_id=7";
        let (token, headers) = taken(&[("upload-metadata", both)]);
        assert_eq!(token.as_deref(), Some("lft_x"));
        let rest = Metadata::from_pairs([("token", "other"), ("upload_request_id", "7")]);
        assert_eq!(metadata(&headers), Some(rest));
    }
}
