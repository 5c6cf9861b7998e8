//! Requirements of HTTP that clients of tus depend on, downloads and CORS.

use crate::client::{Content, Request, Response};
use crate::context::{Context, UPLOAD_DATA, test_data};
use crate::requirement::{CheckResult, ensure, fail, skip};

const DOWNLOAD: &str = "Not part of tus: downloads";
const CORS: &str = "Fetch Standard, CORS protocol";
const ORIGIN: &str = "https://client.example";

checks! {
    May "tus/http/unknown-method", "RFC 9110, 9.1 Methods",
        "A method that the server does not know is 405 or 501." => unknown_method;
    Should "tus/http/several-creations-on-a-connection", "RFC 9112, 9.3 Persistence",
        "Several creations can be sent over one connection." => several_creations;
    Must "tus/http/conflicting-lengths-store-nothing", "RFC 9112, 6.3 Message Body Length",
        "A request with two different Content-Length is invalid." => conflicting_lengths;
    Must "tus/http/invalid-chunk-size-stores-nothing-more", "RFC 9112, 7.1 Chunked Transfer Coding",
        "A body with an invalid chunk size does not complete an upload." => invalid_chunk_size;
    Must "tus/http/missing-host-is-400", "RFC 9112, 3.2 Request Target",
        "A request without Host is 400." => missing_host;
    May "tus/http/absolute-form", "RFC 9112, 3.2.2 absolute-form",
        "A request target in absolute form is accepted." => absolute_form;
    Should "tus/http/errors-end", "RFC 9112, 6 Message Body",
        "The response to a rejected PATCH is complete, so that a connection can be used again." => errors_end;

    Must "tus/http/no-104", "Resumable Uploads for HTTP, Appendix B",
        "Requests of tus name no interop version, and get no 104." => no_104;

    May "tus/download/complete-upload", DOWNLOAD,
        "GET returns the bytes of a complete upload." => download(1000);
    May "tus/download/empty-upload", DOWNLOAD, "GET returns no bytes for an upload of 0 bytes." => download(0);
    May "tus/download/content-length", DOWNLOAD, "A download has Content-Length." => download_length;
    May "tus/download/range", "RFC 9110, 14 Range Requests",
        "A range of a download is 206 with these bytes, or 200 with all." => range;
    May "tus/download/no-active-content", DOWNLOAD,
        "HTML of a client is not displayed: it has Content-Disposition: attachment, another type, or a sandbox." => no_active_content;
    May "tus/download/nosniff", DOWNLOAD,
        "A download has X-Content-Type-Options: nosniff." => nosniff;

    May "tus/cors/preflight", CORS,
        "A preflight request for PATCH succeeds and allows its method and fields." => preflight;
    May "tus/cors/creation-allows-origin", CORS,
        "A creation with Origin has Access-Control-Allow-Origin." => creation_allows_origin;
    May "tus/cors/creation-exposes-location", CORS,
        "The response to a creation exposes Location." => exposes("Location");
    May "tus/cors/exposes-offset", CORS, "Responses expose Upload-Offset." => exposes("Upload-Offset");
    May "tus/cors/exposes-length", CORS, "Responses expose Upload-Length." => exposes("Upload-Length");
    May "tus/cors/errors-allow-origin", CORS,
        "Errors have Access-Control-Allow-Origin, too: otherwise pages cannot see their status." => errors_allow_origin;
}

async fn unknown_method(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    c.send(c.tus("LANDFALL", &url)).await?.expect(&[405, 501])
}

async fn several_creations(c: &Context) -> CheckResult {
    let mut connection = c.connect(c.endpoint()).await?;
    for length in 1..6 {
        let response = connection
            .send(&c.post().field("Upload-Length", length))
            .await?;
        c.location(&response)?;
        if response.is_closing() {
            connection = c.connect(c.endpoint()).await?;
        }
    }
    Ok(())
}

async fn conflicting_lengths(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = c.patch(&url, 0, b"").content(Content::None);
    let request = request
        .field("Content-Length", 5)
        .field("Content-Length", 6);
    let mut connection = c.start(&request, b"hellox").await?;
    // Closing the connection is a rejection, too.
    if let Ok(response) = connection.response().await {
        response.expect_no_success("")?;
    }
    c.expect_offset(&url, 0).await
}

async fn invalid_chunk_size(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let request = c.patch(&url, 0, b"").content(Content::DeclaredChunked);
    let body = b"5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n";
    let mut connection = c.start(&request, body).await?;
    if let Ok(response) = connection.response().await {
        response.expect_no_success("")?;
    }
    drop(connection);
    let offset = c.final_offset(&url).await?;
    ensure!(offset <= 5, "the offset is {offset}")
}

async fn missing_host(c: &Context) -> CheckResult {
    let mut connection = c.connect(c.endpoint()).await?;
    let path = c.endpoint().path();
    let head = format!("OPTIONS {path} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\n\r\n");
    connection.write(head.as_bytes()).await?;
    connection.response().await?.expect(&[400])
}

async fn absolute_form(c: &Context) -> CheckResult {
    let url = c.create(5).await?;
    let mut connection = c.connect(&url).await?;
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut head = format!("HEAD {url} HTTP/1.1\r\nHost: {host}\r\nTus-Resumable: 1.0.0\r\n");
    for (name, value) in &c.options.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    connection
        .write(format!("{head}Connection: close\r\n\r\n").as_bytes())
        .await?;
    let response = connection.interim_within(c.options.timeout).await?;
    response.expect_stored(0)
}

async fn errors_end(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let mut connection = c.connect(&url).await?;
    let response = connection.send(&c.patch(&url, 5, b"hello")).await?;
    response.expect_rejection()?;
    if !response.is_closing() {
        let response = connection.send(&c.patch(&url, 0, b"hello")).await?;
        response.expect_stored(5)?;
    }
    Ok(())
}

async fn no_104(c: &Context) -> CheckResult {
    let data = test_data(1000);
    let creation = c.post().field("Upload-Length", 2000);
    // Without the extension, the content is ignored.
    let creation = creation.field("Content-Type", UPLOAD_DATA).body(&data[..]);
    let response = c.send(creation).await?;
    response.expect_no_104()?;
    let url = c.create(2000).await?;
    c.send(c.patch(&url, 0, &data)).await?.expect_no_104()?;
    c.send(c.tus("HEAD", &url)).await?.expect_no_104()
}

/// Returns the response to GET, if the server has downloads.
async fn get(c: &Context, request: Request) -> CheckResult<Response> {
    if !c.options.downloads {
        return skip("downloads are not used");
    }
    let response = c.send(request).await?;
    match response.is_success() {
        true => Ok(response),
        false => skip(format!("GET is {}", response.status)),
    }
}

async fn download(c: &Context, length: usize) -> CheckResult {
    let data = test_data(length);
    let url = c.complete(&data).await?;
    let response = get(c, c.tus("GET", &url)).await?;
    ensure!(response.body == data, "the download has other bytes")
}

async fn download_length(c: &Context) -> CheckResult {
    let url = c.complete(&test_data(1000)).await?;
    get(c, c.tus("GET", &url))
        .await?
        .expect_number("Content-Length", 1000)
}

async fn range(c: &Context) -> CheckResult {
    let data = test_data(1000);
    let url = c.complete(&data).await?;
    let response = get(c, c.tus("GET", &url).field("Range", "bytes=100-199")).await?;
    response.expect(&[200, 206])?;
    let expected = match response.status {
        206 => &data[100..200],
        _ => data.as_slice(),
    };
    ensure!(response.body == expected, "the range has other bytes")
}

async fn html(c: &Context) -> CheckResult<Response> {
    // The names that servers take the media type from; the value is text/html.
    let metadata = c.metadata("filename eC5odG1s,filetype dGV4dC9odG1s,type dGV4dC9odG1s");
    let body = b"<script>alert(1)</script>";
    let request = c.post().field("Upload-Length", body.len());
    let url = c.created(request.set("Upload-Metadata", metadata)).await?;
    c.append(&url, 0, body).await?;
    get(c, c.tus("GET", &url)).await
}

async fn no_active_content(c: &Context) -> CheckResult {
    let response = html(c).await?;
    let value = |name| {
        response
            .field(name)
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    ensure!(
        value("Content-Disposition").starts_with("attachment")
            || !value("Content-Type").contains("html")
            || value("Content-Security-Policy").contains("sandbox"),
        "a browser would run the script of an uploaded page"
    )
}

async fn nosniff(c: &Context) -> CheckResult {
    let response = html(c).await?;
    let value = response.required("X-Content-Type-Options")?;
    ensure!(
        value.eq_ignore_ascii_case("nosniff"),
        "the value is {value:?}"
    )
}

fn expect_allowed(response: &Response) -> CheckResult {
    let origin = response.field("Access-Control-Allow-Origin");
    match origin {
        None => skip("the server does not allow other origins"),
        Some("*" | ORIGIN) => Ok(()),
        Some(other) => fail(format!("Access-Control-Allow-Origin is {other}")),
    }
}

fn has_name(response: &Response, field: &str, name: &str) -> bool {
    let names = response.list(field);
    names
        .iter()
        .any(|listed| listed == "*" || listed.eq_ignore_ascii_case(name))
}

async fn preflight(c: &Context) -> CheckResult {
    let fields = ["tus-resumable", "upload-offset", "content-type"];
    let url = c.create(5).await?;
    let request = Request::new("OPTIONS", &url)
        .field("Origin", ORIGIN)
        .field("Access-Control-Request-Method", "PATCH")
        .field("Access-Control-Request-Headers", fields.join(","));
    let response = c.send(request).await?;
    expect_allowed(&response)?;
    response.expect_success()?;
    ensure!(
        has_name(&response, "Access-Control-Allow-Methods", "PATCH"),
        "PATCH is not allowed"
    )?;
    for field in fields {
        let allowed = has_name(&response, "Access-Control-Allow-Headers", field);
        ensure!(allowed, "{field} is not allowed")?;
    }
    Ok(())
}

async fn creation(c: &Context) -> CheckResult<Response> {
    let request = c.post().field("Upload-Length", 5).field("Origin", ORIGIN);
    let response = c.send(request).await?.success()?;
    expect_allowed(&response)?;
    Ok(response)
}

async fn creation_allows_origin(c: &Context) -> CheckResult {
    creation(c).await?;
    Ok(())
}

async fn exposes(c: &Context, name: &str) -> CheckResult {
    let response = creation(c).await?;
    let exposed = has_name(&response, "Access-Control-Expose-Headers", name);
    ensure!(exposed, "{name} is not exposed")
}

async fn errors_allow_origin(c: &Context) -> CheckResult {
    creation(c).await?;
    let url = c.create(5).await?;
    let response = c
        .send(c.patch(&url, 3, b"lo").field("Origin", ORIGIN))
        .await?;
    response.expect_rejection()?;
    ensure!(
        response.field("Access-Control-Allow-Origin").is_some(),
        "the error has no Access-Control-Allow-Origin"
    )
}
