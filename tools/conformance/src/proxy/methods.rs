//! HEAD, PATCH and DELETE on an upload, and the fields of their requests and responses.

use url::Url;

use super::{
    Doctor, Finding, METHOD_OVERRIDE, Response, creation, describe, is_from_server, offset,
};

const METHODS_ADVICE: &str = "let the proxy pass HEAD, PATCH and DELETE (nginx: no limit_except, no if ($request_method …); \
     HAProxy: no http-request deny by method; Caddy: no method matcher; firewalls have lists of methods)";

const HALF: u64 = creation::LENGTH / 2;

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor<'_>, upload: &Url) -> Result<(), Finding> {
    head(doctor, upload).await?;
    patch(doctor, upload).await?;
    cache(doctor, upload).await;
    delete(doctor, upload).await;
    Ok(())
}

async fn head(doctor: &mut Doctor<'_>, upload: &Url) -> Result<(), Finding> {
    const CHECK: &str = "HEAD";
    let response = doctor.head(upload).await;
    let response = response.map_err(|error| Finding::fail(CHECK, error))?;
    if !response.is_success() {
        return Err(Finding::fail(CHECK, describe(&response)).advise(METHODS_ADVICE));
    }
    doctor.add(Finding::ok(CHECK, describe(&response)));
    let missing = |names: &[&'static str]| -> Vec<&'static str> {
        let is_missing = |name: &&&str| response.field(name).is_none();
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
    doctor.add(finding);
    Ok(())
}

/// A rejection by the proxy is tried again as POST, which the next checks then use, too.
async fn patch(doctor: &mut Doctor<'_>, upload: &Url) -> Result<(), Finding> {
    const CHECK: &str = "PATCH";
    let send = async |doctor: &Doctor<'_>| {
        let request = doctor.patch(upload, 0).body([0; HALF as usize]);
        let sent = doctor.send(request).await;
        sent.map_err(|error| Finding::fail(CHECK, error))
    };
    let response = send(doctor).await?;
    if response.is_success() {
        let finding = stored(CHECK, &response)?;
        doctor.add(finding);
        return Ok(());
    }
    let text = describe(&response);
    if is_from_server(&response) {
        return Err(lost_field(CHECK, &response));
    }
    doctor.overridden.push("PATCH");
    let replaced = send(doctor).await?;
    if replaced.is_success() {
        let text = format!("{text}; POST with {METHOD_OVERRIDE} passes");
        let advice = format!(
            "{METHODS_ADVICE}, or let clients send it (tus-js-client: overridePatchMethod: true)"
        );
        doctor.add(Finding::warn(CHECK, text).advise(advice));
        return Ok(());
    }
    let replaced = describe(&replaced);
    let text = format!("{text}; and as POST with {METHOD_OVERRIDE}: {replaced}");
    Err(Finding::fail(CHECK, text).advise(METHODS_ADVICE))
}

fn stored(check: &'static str, response: &Response) -> Result<Finding, Finding> {
    match offset(response) {
        Some(HALF) => Ok(Finding::ok(check, describe(response))),
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
    let error = String::from_utf8_lossy(&response.body);
    let lost = match response.status {
        412 => "Tus-Resumable",
        415 => "Content-Type",
        400 if error.contains("ERR_INVALID_OFFSET") => "Upload-Offset",
        _ => return Finding::fail(check, described),
    };
    let text = format!("{lost} does not reach the server: {described}");
    Finding::fail(check, text).advise(creation::FIELDS_ADVICE)
}

async fn cache(doctor: &mut Doctor<'_>, upload: &Url) {
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
    doctor.add_result(CHECK, result);
}

async fn delete(doctor: &mut Doctor<'_>, upload: &Url) {
    const CHECK: &str = "DELETE";
    if doctor.lacks_termination() {
        let text = "the server does not offer termination; the uploads of this command remain";
        doctor.add(Finding::info(CHECK, text));
        return;
    }
    let result = remove(doctor, upload).await;
    doctor.add_result(CHECK, result);
}

async fn remove(doctor: &mut Doctor<'_>, upload: &Url) -> Result<Finding, String> {
    const CHECK: &str = "DELETE";
    let response = doctor.delete(upload).await?;
    if response.is_success() {
        return Ok(Finding::ok(CHECK, describe(&response)));
    }
    let text = describe(&response);
    let finding = Finding::warn(CHECK, format!("{text}: clients cannot cancel uploads"));
    if is_from_server(&response) {
        return Ok(finding);
    }
    // To clean up, at least.
    doctor.overridden.push("DELETE");
    if !doctor.delete(upload).await?.is_success() {
        doctor.overridden.retain(|method| *method != "DELETE");
    }
    Ok(finding.advise(METHODS_ADVICE))
}
