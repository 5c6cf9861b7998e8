use std::{borrow::Cow, fmt, sync::LazyLock};

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
        let own = own.then(|| extract_own(headers)).flatten();
        let bearer = bearer.then(|| extract_bearer(headers)).flatten();
        let stated = stated.then(|| extract_metadata(headers)).flatten();
        own.or(stated).or(bearer).map(Self)
    }
}

impl fmt::Debug for UploadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadToken(..)")
    }
}

fn extract_own(headers: &mut HeaderMap) -> Option<String> {
    let token = headers.get(UPLOAD_TOKEN)?.to_str().ok()?.trim();
    let token = token
        .starts_with(UploadToken::PREFIX)
        .then(|| token.to_owned())?;
    headers.remove(UPLOAD_TOKEN);
    Some(token)
}

fn extract_bearer(headers: &mut HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || !token.starts_with(UploadToken::PREFIX) {
        return None;
    }
    let token = token.to_owned();
    headers.remove(header::AUTHORIZATION);
    Some(token)
}

fn extract_metadata(headers: &mut HeaderMap) -> Option<String> {
    let value = headers.get(headers::UPLOAD_METADATA)?;
    // Nearly all metadata has no token, and is parsed only once, later.
    FINDER.find(value.as_bytes())?;
    // Malformed metadata is rejected later.
    let metadata = Metadata::from_header(value.to_str().ok()?).ok()?;
    let has_prefix = |value: Cow<'_, str>| value.starts_with(UploadToken::PREFIX);
    let is_token =
        |key: &str| KEYS.contains(&key) && metadata.get_text(key).is_some_and(has_prefix);
    let token = KEYS
        .iter()
        .rev()
        .filter(|key| is_token(key))
        .find_map(|key| metadata.get_text(key))?
        .into_owned();
    let rest = Metadata::from_pairs(metadata.iter().filter(|(key, _)| !is_token(key)));
    match HeaderValue::from_str(rest.header()) {
        Ok(value) if !rest.is_empty() => {
            headers.insert(headers::UPLOAD_METADATA, value);
        }
        _ => {
            headers.remove(headers::UPLOAD_METADATA);
        }
    }
    Some(token)
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
