//! The server of the uploads: the URL where they are created, and where grants are requested with an API key or a link.
//!
//! People copy the URL of the upload page or of an upload, or get a link to the page. One request to the page finds the
//! others; any other URL of a server leads up to it.

use std::{
    collections::HashSet,
    env,
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf, absolute},
};

use clap::ArgMatches;
use landfall_client::{Client, Error, GrantRequest, HeaderName, HeaderValue, Url};

use crate::{
    arguments::{client, get, secret},
    exit::Failure,
    state,
};

/// The variable of `--key`.
const KEY: &str = "LANDFALL_API_KEY";

/// Requests grants.
#[derive(Debug)]
pub(super) struct Grants {
    client: Client,
    url: Url,
    is_link: bool,
    /// The files whose uploads resume, and need no grant.
    unfinished: HashSet<(PathBuf, u64)>,
}

/// Finds the URL where uploads are created, and where grants are requested if there is a key.
pub(super) async fn find(
    matches: &ArgMatches,
    plain: &Client,
    mut target: Url,
) -> Result<(Url, Option<Grants>), Failure> {
    let fragment = target.fragment().unwrap_or_default().to_owned();
    target.set_fragment(None);
    let link = fragment.strip_prefix("token=").map(str::to_owned);
    let is_link = link.is_some();
    let key: Option<String> = link
        .or_else(|| get(matches, "key"))
        .or_else(|| env::var(KEY).ok().filter(|key| !key.is_empty()))
        .filter(|_| get::<String>(matches, "token").is_none());
    // The usual path of uploads is no page, and costs no request.
    let is_usual = target.path().trim_end_matches('/').ends_with("/files");
    let mut page = target.clone();
    let mut found = match is_link || !is_usual {
        true => plain.discover(&page).await?,
        false => None,
    };
    let is_page = is_link || target.path() == "/" || found.is_some();
    let mut is_other = false;
    if !is_page && !is_usual {
        match plain.inspect(&target).await {
            // The URL of an upload.
            Ok(_) => target = parent(target),
            // Something else, such as the dashboard.
            Err(error) => is_other = matches!(error, Error::Protocol(_)),
        }
    }
    if !is_page && key.is_none() && !is_other {
        return Ok((target, None));
    }
    if !is_page {
        page = parent(target.clone());
        found = plain.discover(&page).await?;
        let mut above = page.clone();
        while is_other && found.is_none() && above.path() != "/" {
            above = parent(above);
            found = plain.discover(&above).await?;
        }
    }
    let (endpoint, url) = match found {
        Some(urls) if is_page || is_other => (urls.endpoint, urls.grants),
        Some(urls) => (target, urls.grants),
        // It may be turned off.
        None => (target, page.join("uploadjobs").ok()),
    };
    let Some(key) = key else {
        return Ok((endpoint, None));
    };
    let url = url.ok_or_else(|| {
        Failure::usage("the server grants no uploads: it needs --require-grant or --grants")
    })?;
    let value = secret("--key", &format!("Bearer {key}"))?;
    let header = HeaderName::from_static("authorization");
    let unfinished = unfinished(&endpoint);
    Ok((
        endpoint,
        Some(Grants {
            client: client(matches)?.header(header, value).build()?,
            url,
            is_link,
            unfinished,
        }),
    ))
}

fn parent(url: Url) -> Url {
    let above = [".", ".."][usize::from(url.path().ends_with('/'))];
    url.join(above).unwrap_or(url)
}

fn unfinished(endpoint: &Url) -> HashSet<(PathBuf, u64)> {
    let stored = state::fingerprints().and_then(|store| store.list().ok());
    let stored = stored.unwrap_or_default().into_iter();
    stored
        .filter(|upload| upload.endpoint == endpoint.as_str())
        .map(|upload| (upload.source, upload.length))
        .collect()
}

impl Grants {
    /// Returns whether an upload of this file with this length was started before.
    pub(super) fn has_unfinished(&self, path: &Path, length: u64) -> bool {
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        self.unfinished.contains(&(path, length))
    }

    /// Requests an upload token, and returns it as a header.
    ///
    /// As the token of the upload, it would be part of its fingerprint, and another run has another token.
    pub(super) async fn request(
        &self,
        filename: &str,
        size: Option<u64>,
        filetype: Option<&str>,
        relative_path: Option<&str>,
    ) -> Result<(HeaderName, HeaderValue), Failure> {
        let mut request = GrantRequest {
            id: random_id(),
            filename: filename.to_owned(),
            filesize: size,
            filetype: filetype.map(str::to_owned),
            ..GrantRequest::default()
        };
        if let Some(path) = relative_path {
            let key = "relativePath".to_owned();
            request.metadata.insert(key, path.into());
        }
        let grant = self.client.grant(&self.url, &request).await;
        let grant = grant.map_err(|error| self.failure(error))?;
        let missing = || Failure::new("the server granted the upload without a token");
        let token = secret("the grant", &grant.upload_token.ok_or_else(missing)?)?;
        Ok((HeaderName::from_static("upload-token"), token))
    }

    /// Returns what helps the files that are not granted.
    pub(super) fn remedy(&self) -> &'static str {
        match self.is_link {
            true => "another link may be needed",
            false => "another --key may be needed",
        }
    }

    fn failure(&self, error: Error) -> Failure {
        match &error {
            Error::Unauthorized(rejection) if rejection.status == 401 => {
                let advice = match self.is_link {
                    true => {
                        "the link was revoked or is not complete; ask its sender for another one"
                    }
                    false => "check --key, and that the key was not revoked",
                };
                Failure::with_advice(&error, Some(advice))
            }
            Error::Unauthorized(_) => Failure::with_advice(&error, None),
            _ => error.into(),
        }
    }
}

/// Unique among all who use the key: one id is one upload.
fn random_id() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", random(), random())
}
