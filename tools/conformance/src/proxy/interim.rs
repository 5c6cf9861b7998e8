//! The IETF draft: its fields, and 104 (Upload Resumption Supported), an interim response.
//!
//! A proxy may drop a 104, which the other versions of HTTP and the server itself show. It may also take a 104 for the
//! final response; the next response of the connection then belongs to an older request.

use std::time::Duration;

use url::Url;

use super::{
    Client, Connection, Content, Doctor, Finding, METADATA, Request, Response, creation, describe,
};
use crate::client::INTEROP_VERSION as VERSION_FIELD;
use crate::options::HttpVersion;

/// The version of Apple's clients, which other servers than Landfall accept, too.
const INTEROP_VERSION: &str = "6";
/// A version that was never in use, so a server rejects a creation that it does not know to be complete.
const UNKNOWN_VERSION: &str = "1";
const PART: usize = 16 * 1024;
static ZEROS: [u8; PART] = [0; PART];

/// The server sends it when it has created the upload.
const INTERIM_TIMEOUT: Duration = Duration::from_secs(3);

const INTERIM_ADVICE: &str = "turn off interim responses in the server, or use a proxy that passes them (nginx passes only 103)";

const DROP_ADVICE: &str = "use a proxy that passes 104 (HAProxy, Caddy, Traefik without fastProxy; nginx passes only 103), or let clients \
     create uploads with Upload-Complete: ?0 before they send content: without a 104, a file that is sent in one request cannot be resumed";

/// What proxies add to a request. A server may send no interim responses to requests that have it.
const FORWARDED: [(&str, &str); 2] = [
    ("Via", "1.1 landfall-doctor"),
    ("X-Forwarded-For", "192.0.2.1"),
];

/// The time at which a 104 arrives: before the content is sent, or after.
enum Arrival {
    InTime,
    Late,
}

pub(super) async fn run(doctor: &mut Doctor<'_>) {
    if !doctor.has_draft() && doctor.responds_to_options() {
        let text = "the server does not offer the IETF draft, or Upload-Limit does not pass";
        doctor.add(Finding::info("IETF draft", text));
        return;
    }
    match doctor.connect(&doctor.url).await {
        Ok(mut connection) => create(doctor, &mut connection).await,
        Err(error) => doctor.add(Finding::fail("IETF draft", error)),
    }
}

async fn create(doctor: &mut Doctor<'_>, connection: &mut Connection) {
    const CHECK: &str = "interim responses";
    let url = doctor.url.clone();
    let (announcement, result) = exchange(doctor, connection, &url, &[]).await;
    let is_announced = announcement.is_some();
    if announcement.is_none() || result.is_ok() {
        let finding = draft(&result, doctor.has_draft());
        doctor.add(finding);
    }
    let finding = match (announcement, &result) {
        (None, Err(_)) => return,
        (None, Ok(response)) if !response.is_success() => return,
        (None, Ok(_)) => missing(doctor).await,
        (Some((_, interim)), Ok(_)) if interim.field(VERSION_FIELD).is_none() => {
            let text = format!("104 arrives without {VERSION_FIELD}, and clients ignore it");
            Finding::warn(CHECK, text).advise(creation::FIELDS_ADVICE)
        }
        (Some((Arrival::InTime, _)), Ok(_)) => {
            Finding::ok(CHECK, "104 arrives before the final response")
        }
        (Some((Arrival::Late, _)), Ok(_)) => {
            let text = "104 arrives only with the final response: the proxy holds it back";
            Finding::warn(CHECK, text).advise(INTERIM_ADVICE)
        }
        (Some(_), Err(error)) => {
            let text = format!("104 arrives, but no final response: {error}");
            Finding::fail(CHECK, text).advise(INTERIM_ADVICE)
        }
    };
    doctor.add(finding);
    if is_announced && result.is_ok() && over_http2(doctor).await == Some(false) {
        let text = "104 arrives over HTTP/1.1, but not over HTTP/2: the proxy drops it there";
        doctor.add(Finding::warn(CHECK, text).advise(DROP_ADVICE));
    }
    if let Ok(response) = result {
        if response.is_success() && doctor.has_draft() {
            version(doctor).await;
        }
        let finding = next_response(doctor, connection, &response).await;
        doctor.add(finding);
    }
}

/// Finds out whether a 104 that does not arrive was sent.
async fn missing(doctor: &Doctor<'_>) -> Finding {
    const CHECK: &str = "interim responses";
    if over_http2(doctor).await == Some(true) {
        let text = "104 arrives over HTTP/2, but not over HTTP/1.1: the proxy drops it there";
        return Finding::warn(CHECK, text).advise(DROP_ADVICE);
    }
    let Some(upstream) = &doctor.options.upstream else {
        let text = "no 104 arrives: the server sends none, or the proxy drops it";
        return Finding::info(CHECK, text)
            .advise("--upstream with the URL of the server itself tells which");
    };
    let to_server = async |fields: &[(&str, &str)]| {
        let client = doctor.client.of(upstream, HttpVersion::Http1);
        let client = client.map_err(|error| doctor.error(&error))?;
        is_announced(doctor, &client, upstream, fields).await
    };
    match (to_server(&FORWARDED).await, to_server(&[]).await) {
        (Ok(true), _) => {
            let text = "the server sends 104, and the proxy drops it";
            Finding::warn(CHECK, text).advise(DROP_ADVICE)
        }
        (Ok(false), Ok(true)) => {
            let text = "the server sends 104, but none to requests that have passed a proxy";
            let advice = "if all proxies pass 104 (nginx does not), turn it on (Landfall: --rufh-104 on), and check again";
            Finding::info(CHECK, text).advise(advice)
        }
        (Ok(false), Ok(false)) => Finding::info(CHECK, "the server sends no 104"),
        (Err(error), _) | (_, Err(error)) => {
            let text = format!("no 104 arrives, and the server at {upstream} fails: {error}");
            Finding::warn(CHECK, text)
        }
    }
}

/// Returns whether a 104 arrives over HTTP/2; `None` if the proxy offers no HTTP/2, or the creation fails.
async fn over_http2(doctor: &Doctor<'_>) -> Option<bool> {
    let client = doctor.client.over_http2(&doctor.url).await.ok()??;
    let announced = is_announced(doctor, &client, &doctor.url, &[]).await;
    announced.ok()
}

/// Returns whether a 104 announces an upload that is created with these fields. An error is no creation.
async fn is_announced(
    doctor: &Doctor<'_>,
    client: &Client,
    url: &Url,
    fields: &[(&str, &str)],
) -> Result<bool, String> {
    let connected = client.connect(url).await;
    let mut connection = connected.map_err(|error| doctor.error(&error))?;
    let (announcement, result) = exchange(doctor, &mut connection, url, fields).await;
    let response = result?;
    match response.is_success() {
        true => Ok(announcement.is_some()),
        false => Err(describe(&response)),
    }
}

/// Sends a creation in two parts, without the last byte; returns the first 104, and the final response.
async fn exchange(
    doctor: &Doctor<'_>,
    connection: &mut Connection,
    url: &Url,
    fields: &[(&str, &str)],
) -> (Option<(Arrival, Response)>, Result<Response, String>) {
    let length = 2 * PART as u64;
    let mut request = Request::new("POST", url)
        .field(VERSION_FIELD, INTEROP_VERSION)
        .field("Upload-Complete", "?0")
        .field("Upload-Length", length + 1)
        .field("Content-Type", "application/octet-stream")
        .field("Upload-Metadata", METADATA)
        .content(Content::Declared(length));
    for (name, value) in fields {
        request = request.field(name, value);
    }
    if let Err(error) = doctor.start(connection, request).await {
        return (None, Err(error));
    }
    connection.send_part(&ZEROS).await;
    let in_time = connection.interim(104, INTERIM_TIMEOUT).await;
    connection.send_part(&ZEROS).await;
    connection.has_ended(doctor.options.timeout).await;
    let announcement = match in_time {
        Some(interim) => Some((Arrival::InTime, interim)),
        None => {
            let late = connection.interim(104, Duration::ZERO).await;
            late.map(|interim| (Arrival::Late, interim))
        }
    };
    (announcement, doctor.response(connection).await)
}

fn draft(result: &Result<Response, String>, is_offered: bool) -> Finding {
    const CHECK: &str = "IETF draft";
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            let advice = "the proxy may take a 104 for the final response";
            return Finding::fail(CHECK, error.as_str())
                .advise(format!("{advice}: {INTERIM_ADVICE}"));
        }
    };
    let described = describe(response);
    if !response.is_success() {
        let text = format!("a creation fails: {described}");
        return match is_offered {
            true => Finding::warn(CHECK, text).advise(creation::FIELDS_ADVICE),
            false => Finding::info(CHECK, text),
        };
    }
    let is_missing = |name: &&str| response.field(name).is_none();
    let missing: Vec<_> = ["Upload-Complete", "Location"]
        .into_iter()
        .filter(is_missing)
        .collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, described);
    }
    let text = format!(
        "{} is missing in the response {described}",
        missing.join(", ")
    );
    Finding::warn(CHECK, text).advise(creation::FIELDS_ADVICE)
}

/// Reports a version that does not reach the server, which then accepts an unknown one.
async fn version(doctor: &mut Doctor<'_>) {
    let request = Request::new("POST", &doctor.url).body([]);
    let request = request.field(VERSION_FIELD, UNKNOWN_VERSION);
    let sent = doctor.send(request.field("Upload-Complete", "?0"));
    if let Ok(response) = sent.await
        && doctor.location(&response).is_some()
    {
        let text = format!("{VERSION_FIELD} does not reach the server, or it accepts any version");
        let finding = Finding::warn("IETF draft version", text);
        doctor.add(finding.advise(creation::FIELDS_ADVICE));
    }
}

/// Sends OPTIONS on the same connection, whose response no other request has.
async fn next_response(
    doctor: &Doctor<'_>,
    connection: &mut Connection,
    previous: &Response,
) -> Finding {
    const CHECK: &str = "connection";
    if previous.is_closing() {
        return Finding::info(CHECK, "is closed after each response");
    }
    let request = Request::new("OPTIONS", &doctor.url);
    let text = match send_again(doctor, connection, request).await {
        Ok(response) => {
            let is_same = response.field("Tus-Version").is_some();
            if is_same == doctor.responds_to_options() && response.status != 201 {
                return Finding::ok(CHECK, "the next response belongs to the next request");
            }
            format!(
                "the response to OPTIONS is that of another request: {}",
                describe(&response)
            )
        }
        Err(error) => format!("the next request has no response: {error}"),
    };
    Finding::fail(CHECK, text).advise(INTERIM_ADVICE)
}

async fn send_again(
    doctor: &Doctor<'_>,
    connection: &mut Connection,
    request: Request,
) -> Result<Response, String> {
    doctor.start(connection, request).await?;
    doctor.response(connection).await
}
