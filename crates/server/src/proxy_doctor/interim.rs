//! The IETF draft: its fields, and 104 (Upload Resumption Supported), an interim response.
//!
//! A proxy may take a 104 for the final response. The next response of the connection then belongs to an
//! older request.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::timeout;

use super::{
    Doctor, Response,
    client::{Connection, Exchange, Interim},
    creation, describe, field,
};
use crate::finding::Finding;

/// The version of Apple's clients, which other servers than Landfall accept, too.
const INTEROP_VERSION: &str = "6";
/// A version that was never in use, so a server rejects a creation that it does not know to be complete.
const UNKNOWN_VERSION: &str = "1";
const VERSION_FIELD: &str = "Upload-Draft-Interop-Version";
const PART: usize = 16 * 1024;
static ZEROS: [u8; PART] = [0; PART];

const RESUMPTION_SUPPORTED: u16 = 104;
/// The server sends it when it has created the upload.
const INTERIM_TIMEOUT: Duration = Duration::from_secs(3);

const INTERIM_ADVICE: &str = "turn off interim responses in the server, or use a proxy that passes them (nginx passes only 103)";

/// The time at which a 104 arrives: before the content is sent, or after.
enum Arrival {
    InTime,
    Late,
}

pub(super) async fn run(doctor: &mut Doctor) {
    if !doctor.server.has_draft && doctor.server.responds_to_options {
        let text = "the server does not offer the IETF draft, or Upload-Limit does not pass";
        doctor.report.add(Finding::info("IETF draft", text));
        return;
    }
    match doctor.client.connect(&doctor.url).await {
        Ok(mut connection) => create(doctor, &mut connection).await,
        Err(error) => doctor.report.add(Finding::fail("IETF draft", error)),
    }
}

async fn create(doctor: &mut Doctor, connection: &mut Connection) {
    const CHECK: &str = "interim responses";
    let (announcement, result) = exchange(doctor, connection).await;
    let interim = announcement.as_ref().map(|(_, interim)| interim);
    if let Some(location) = interim.and_then(|interim| field(&interim.headers, "Location")) {
        doctor.record_upload(location);
    }
    if let Ok(response) = &result {
        doctor.record_location(response);
    }
    if announcement.is_none() || result.is_ok() {
        let finding = draft(&result, doctor.server.has_draft);
        doctor.report.add(finding);
    }
    let finding = match (announcement, &result) {
        (None, Err(_)) => return,
        (None, Ok(response)) if !response.status().is_success() => return,
        (None, Ok(_)) => Finding::info(
            CHECK,
            "no 104 arrives: the server sends none, or the proxy drops it",
        ),
        (Some((_, interim)), Ok(_)) if !interim.headers.contains_key(VERSION_FIELD) => {
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
    doctor.report.add(finding);
    if let Ok(response) = result {
        if response.status().is_success() && doctor.server.has_draft {
            version(doctor).await;
        }
        let finding = next_response(doctor, connection, &response).await;
        doctor.report.add(finding);
    }
}

/// Sends a creation in two parts; returns the first 104, and the final response.
async fn exchange(
    doctor: &Doctor,
    connection: &mut Connection,
) -> (Option<(Arrival, Interim)>, Result<Response, String>) {
    let length = (2 * PART).to_string();
    let fields = [
        (VERSION_FIELD, INTEROP_VERSION),
        ("Upload-Complete", "?1"),
        ("Upload-Length", length.as_str()),
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", "inline; filename=landfall-doctor"),
    ];
    let request = doctor.request(&Method::POST, &doctor.url, &fields);
    let mut exchange = match connection.start(request, 2 * PART as u64).await {
        Ok(exchange) => exchange,
        Err(error) => return (None, Err(error)),
    };
    exchange.send(Bytes::from_static(&ZEROS)).await;
    let in_time = timeout(INTERIM_TIMEOUT, receive_announcement(&mut exchange)).await;
    exchange.send(Bytes::from_static(&ZEROS)).await;
    exchange.has_ended(doctor.client.timeout).await;
    let late = timeout(Duration::ZERO, receive_announcement(&mut exchange)).await;
    let in_time = in_time
        .ok()
        .flatten()
        .map(|interim| (Arrival::InTime, interim));
    let late = late.ok().flatten().map(|interim| (Arrival::Late, interim));
    (in_time.or(late), exchange.response().await)
}

async fn receive_announcement(exchange: &mut Exchange) -> Option<Interim> {
    loop {
        match exchange.interim().await {
            Some(interim) if interim.status.as_u16() != RESUMPTION_SUPPORTED => {}
            other => return other,
        }
    }
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
    let headers = response.headers();
    let described = describe(response);
    if !response.status().is_success() {
        let text = format!("a creation fails: {described}");
        return match is_offered {
            true => Finding::warn(CHECK, text).advise(creation::FIELDS_ADVICE),
            false => Finding::info(CHECK, text),
        };
    }
    let is_missing = |name: &&str| !headers.contains_key(*name);
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
async fn version(doctor: &mut Doctor) {
    let fields = [(VERSION_FIELD, UNKNOWN_VERSION), ("Upload-Complete", "?0")];
    let sent = doctor.send(&Method::POST, &doctor.url, &fields, Bytes::new());
    if let Ok(response) = sent.await
        && doctor.record_location(&response).is_some()
    {
        let text = format!("{VERSION_FIELD} does not reach the server, or it accepts any version");
        let finding = Finding::warn("IETF draft version", text);
        doctor.report.add(finding.advise(creation::FIELDS_ADVICE));
    }
}

/// Sends OPTIONS on the same connection, whose response no other request has.
async fn next_response(
    doctor: &Doctor,
    connection: &mut Connection,
    previous: &Response,
) -> Finding {
    const CHECK: &str = "connection";
    let closes = field(previous.headers(), "Connection");
    if closes.is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        return Finding::info(CHECK, "is closed after each response");
    }
    let request = doctor.request(&Method::OPTIONS, &doctor.url, &[]);
    let response = match connection.start(request, 0).await {
        Ok(exchange) => exchange.response().await,
        Err(error) => Err(error),
    };
    let text = match response {
        Ok(response) => {
            let is_same = response.headers().contains_key("Tus-Version");
            if is_same == doctor.server.responds_to_options
                && response.status() != StatusCode::CREATED
            {
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
