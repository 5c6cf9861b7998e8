//! HEAD, PATCH and DELETE on an upload, and the fields of their requests and responses.

use bytes::Bytes;
use http::Method;
use url::Url;

use super::{Doctor, METHOD_OVERRIDE, Response, creation, describe, is_from_server, offset};
use crate::finding::Finding;

const METHODS_ADVICE: &str = "let the proxy pass HEAD, PATCH and DELETE (nginx: no limit_except, no if ($request_method …); \
     HAProxy: no http-request deny by method; Caddy: no method matcher; firewalls have lists of methods)";

const HALF: u64 = creation::LENGTH / 2;

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor, upload: &Url) -> Result<(), Finding> {
    head(doctor, upload).await?;
    patch(doctor, upload).await?;
    cache(doctor, upload).await;
    delete(doctor, upload).await;
    Ok(())
}

async fn head(doctor: &mut Doctor, upload: &Url) -> Result<(), Finding> {
    const CHECK: &str = "HEAD";
    let response = doctor.head(upload).await;
    let response = response.map_err(|error| Finding::fail(CHECK, error))?;
    if !response.status().is_success() {
        return Err(Finding::fail(CHECK, describe(&response)).advise(METHODS_ADVICE));
    }
    doctor
        .report
        .add(Finding::ok(CHECK, response.status().to_string()));
    let missing = |names: &[&'static str]| -> Vec<&'static str> {
        let is_missing = |name: &&&str| !response.headers().contains_key(**name);
        names.iter().filter(is_missing).copied().collect()
    };
    let (needed, others) = (
        ["Upload-Offset", "Upload-Length"],
        ["Tus-Resumable", "Upload-Metadata"],
    );
    let finding = match (missing(&needed).as_slice(), missing(&others).as_slice()) {
        ([], []) => Finding::ok("fields", "pass in both directions"),
        ([], lost) => {
            let text = format!("{} does not pass", lost.join(", "));
            Finding::warn("fields", text).advise(creation::FIELDS_ADVICE)
        }
        (lost, _) => {
            let text = format!("{} is missing in the response to HEAD", lost.join(", "));
            return Err(Finding::fail("fields", text).advise(creation::FIELDS_ADVICE));
        }
    };
    doctor.report.add(finding);
    Ok(())
}

/// A rejection by the proxy is tried again as POST, which the next checks then use, too.
async fn patch(doctor: &mut Doctor, upload: &Url) -> Result<(), Finding> {
    const CHECK: &str = "PATCH";
    let content = Bytes::from_static(&[0; HALF as usize]);
    let send = async |doctor: &Doctor| {
        let request = doctor.patch(upload, 0, &[]);
        let sent = doctor.client.send(upload, request, content.clone()).await;
        sent.map_err(|error| Finding::fail(CHECK, error))
    };
    let response = send(doctor).await?;
    if response.status().is_success() {
        let finding = stored(CHECK, &response)?;
        doctor.report.add(finding);
        return Ok(());
    }
    let text = describe(&response);
    if is_from_server(&response) {
        return Err(lost_field(CHECK, &response));
    }
    doctor.overridden.push(Method::PATCH);
    let replaced = send(doctor).await?;
    if replaced.status().is_success() {
        let text = format!("{text}; POST with {METHOD_OVERRIDE} passes");
        let advice = format!(
            "{METHODS_ADVICE}, or let clients send it (tus-js-client: overridePatchMethod: true)"
        );
        doctor.report.add(Finding::warn(CHECK, text).advise(advice));
        return Ok(());
    }
    let replaced = describe(&replaced);
    let text = format!("{text}; and as POST with {METHOD_OVERRIDE}: {replaced}");
    Err(Finding::fail(CHECK, text).advise(METHODS_ADVICE))
}

fn stored(check: &'static str, response: &Response) -> Result<Finding, Finding> {
    match offset(response) {
        Some(HALF) => Ok(Finding::ok(check, response.status().to_string())),
        Some(other) => {
            let text = format!("Upload-Offset is {other}, not {HALF}, after {HALF} bytes");
            Err(Finding::fail(check, text))
        }
        None => {
            let text = "Upload-Offset is missing in the response to PATCH";
            Err(Finding::fail(check, text).advise(creation::FIELDS_ADVICE))
        }
    }
}

fn lost_field(check: &'static str, response: &Response) -> Finding {
    let described = describe(response);
    let error = String::from_utf8_lossy(response.body());
    let lost = match response.status().as_u16() {
        412 => "Tus-Resumable",
        415 => "Content-Type",
        400 if error.contains("ERR_INVALID_OFFSET") => "Upload-Offset",
        _ => return Finding::fail(check, described),
    };
    let text = format!("{lost} does not reach the server: {described}");
    Finding::fail(check, text).advise(creation::FIELDS_ADVICE)
}

async fn cache(doctor: &mut Doctor, upload: &Url) {
    const CHECK: &str = "offset";
    let result = doctor
        .head(upload)
        .await
        .map(|response| match offset(&response) {
            Some(HALF) => Finding::ok(CHECK, "HEAD returns the bytes of PATCH"),
            Some(other) => {
                let text = format!("HEAD returns {other} after {HALF} bytes");
                let advice = "do not cache below this URL (nginx: proxy_cache off)";
                Finding::fail(CHECK, text).advise(advice)
            }
            None => Finding::fail(CHECK, describe(&response)),
        });
    doctor.report_result(CHECK, result);
}

async fn delete(doctor: &mut Doctor, upload: &Url) {
    const CHECK: &str = "DELETE";
    let extensions = doctor.server.extensions.as_deref();
    if extensions.is_some_and(|names| !names.iter().any(|name| name == "termination")) {
        let text = "the server does not offer termination; the uploads of this command remain";
        doctor.report.add(Finding::info(CHECK, text));
        return;
    }
    let result = remove(doctor, upload).await;
    doctor.report_result(CHECK, result);
}

async fn remove(doctor: &mut Doctor, upload: &Url) -> Result<Finding, String> {
    const CHECK: &str = "DELETE";
    let response = doctor.delete(upload).await?;
    if response.status().is_success() {
        doctor.uploads.retain(|other| other != upload);
        return Ok(Finding::ok(CHECK, response.status().to_string()));
    }
    let text = describe(&response);
    let finding = Finding::warn(CHECK, format!("{text}: clients cannot cancel uploads"));
    if is_from_server(&response) {
        return Ok(finding);
    }
    // To clean up, at least.
    doctor.overridden.push(Method::DELETE);
    if doctor.delete(upload).await?.status().is_success() {
        doctor.uploads.retain(|other| other != upload);
    } else {
        doctor.overridden.retain(|method| method != Method::DELETE);
    }
    Ok(finding.advise(METHODS_ADVICE))
}
