//! The URLs that the upload page of a Landfall server names.

use http::{HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::{
    Error,
    http::{Request, Session},
};

/// The URLs of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerUrls {
    /// The URL where uploads are created.
    pub endpoint: Url,
    /// The URL where grants are requested, if the server has grants.
    pub grants: Option<Url>,
}

/// Reads the upload page at a URL; `None` if there is none.
pub(crate) async fn discover(session: &Session, page: &Url) -> Result<Option<ServerUrls>, Error> {
    let request = Request::new(Method::GET, page.clone())
        .with(header::ACCEPT, HeaderValue::from_static("text/html"));
    let mut response = session.send(request).await?;
    let status = response.status;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(response.into_error().await);
    }
    // Whatever is there, it is no page.
    if !status.is_success() {
        return Ok(None);
    }
    let html = String::from_utf8_lossy(&response.read().await?).into_owned();
    Ok(parse(&response.url, &html))
}

fn parse(page: &Url, html: &str) -> Option<ServerUrls> {
    let url = |name| page.join(&meta(html, name)?).ok();
    Some(ServerUrls {
        endpoint: url("endpoint")?,
        grants: url("grants"),
    })
}

/// Returns the content of `<meta name="landfall-…">`, unless it is empty.
fn meta(html: &str, name: &str) -> Option<String> {
    let start = format!("<meta name=\"landfall-{name}\" content=\"");
    let (_, rest) = html.split_once(&start)?;
    let (content, _) = rest
        .split_once('"')
        .filter(|(content, _)| !content.is_empty())?;
    let escapes = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    let unescape = |text: String, (escape, c): (&str, &str)| text.replace(escape, c);
    Some(escapes.into_iter().fold(content.to_owned(), unescape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_relative_to_the_page() {
        let page = Url::parse("https://a.example/up/").unwrap();
        let html = "<meta name=\"landfall-endpoint\" content=\"./files/?a=1&amp;b\">\n\
                    <meta name=\"landfall-grants\" content=\"./uploadjobs\">";
        let urls = parse(&page, html).unwrap();
        assert_eq!(urls.endpoint.as_str(), "https://a.example/up/files/?a=1&b");
        assert_eq!(
            urls.grants.unwrap().as_str(),
            "https://a.example/up/uploadjobs"
        );
        let html = "<meta name=\"landfall-endpoint\" content=\"https://b.example/files/\">\
                    <meta name=\"landfall-grants\" content=\"\">";
        let urls = parse(&page, html).unwrap();
        assert_eq!(
            (urls.endpoint.as_str(), urls.grants),
            ("https://b.example/files/", None)
        );
        assert_eq!(parse(&page, "<title>other</title>"), None);
    }
}
