//! Checks that the pages of an origin may use the bucket, by its rules and by the service's responses.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use landfall_s3::client::{CorsRule, ObjectRef};

use super::{Doctor, Finding, Severity};
use crate::{
    diagnosis::error_line,
    s3::cors::{self, RequiredRules, find_rule, missing},
};

pub(super) async fn run(doctor: &mut Doctor<'_>, origins: &[String], may_write: bool) {
    if origins.is_empty() {
        if doctor.s3().redirects || doctor.settings.direct.enabled {
            let text = "pages use the bucket directly";
            let advice = "check their access with --origin https://example.com";
            doctor.report(Finding::info("CORS", text).advise(advice));
        }
        return;
    }
    let required = RequiredRules::new(doctor.settings);
    // Without direct uploads, only redirected downloads depend on it.
    let severity = match doctor.settings.direct.enabled {
        true => Severity::Fail,
        false => Severity::Warn,
    };
    let started = doctor.report.findings().len();
    let read = doctor.client.bucket_cors(doctor.bucket).await;
    if let Err(error) = &read {
        let text = format!("cannot read the rules: {}", error_line(error));
        let finding = Finding::info("CORS", text);
        doctor.report(finding.advise("the next checks test the responses of the service"));
    }
    for origin in origins {
        if let Ok(rules) = &read {
            let rules = rules.as_deref().unwrap_or_default();
            for finding in evaluate(rules, origin, &required, severity) {
                doctor.report(finding);
            }
        }
        for &method in &required.methods {
            preflight(doctor, origin, method, &required, severity).await;
        }
        if read.is_err() {
            for &method in &required.optional {
                preflight(doctor, origin, method, &required, Severity::Note).await;
            }
        }
        if may_write {
            presigned_put(doctor, origin, severity).await;
        }
    }
    let is_problem = |one: &Finding| matches!(one.severity, Severity::Warn | Severity::Fail);
    if doctor.report.findings()[started..].iter().any(is_problem) {
        let finding = rules_to_set(doctor.bucket, read.ok(), origins);
        doctor.report(finding);
    }
}

fn rules_to_set(bucket: &str, rules: Option<Option<Vec<CorsRule>>>, origins: &[String]) -> Finding {
    let ours = cors::rule(origins);
    let (rules, keeps) = match rules {
        Some(rules) => (cors::merged(&rules.unwrap_or_default(), ours), ""),
        None => (vec![ours], ", in addition to the existing rules"),
    };
    let rules = cors::to_json(&rules);
    let flags = origins.iter().map(|origin| format!(" --origin {origin}"));
    let flags: String = flags.collect();
    let mut finding =
        Finding::info("CORS to set", format!("landfall s3 set-cors{flags}")).advise(format!(
            "or by other means{keeps}: aws s3api put-bucket-cors --bucket {bucket} \
         --cors-configuration '{rules}'"
        ));
    finding.rules = Some(rules);
    finding
}

/// Compares the rules with the needs of every page, and of pages that call S3 themselves.
fn evaluate(
    rules: &[CorsRule],
    origin: &str,
    required: &RequiredRules,
    severity: Severity,
) -> Vec<Finding> {
    let denied = |methods: &[&'static str]| -> Vec<String> {
        let is_denied = |method: &&&str| find_rule(rules, origin, method).is_none();
        let denied = methods.iter().filter(is_denied);
        denied.map(|method| format!("allow {method}")).collect()
    };
    let (mut lacks, mut lacks_optional) = (denied(&required.methods), denied(&required.optional));
    if let Some(rule) = find_rule(rules, origin, "PUT") {
        let headers = missing(&rule.allowed_headers, &required.headers);
        lacks.extend(
            headers
                .iter()
                .map(|name| format!("allow the header {name}")),
        );
        if !missing(&rule.expose_headers, &["etag"]).is_empty() {
            lacks
                .push("expose ETag, without which no multipart upload can be completed".to_owned());
        }
        let form = find_rule(rules, origin, "POST").unwrap_or(rule);
        if !missing(&form.expose_headers, &["location"]).is_empty() {
            lacks_optional.push("expose Location, the URL of a small file".to_owned());
        }
    }
    let mut findings = vec![match lacks.as_slice() {
        [] => Finding::ok("CORS", format!("the rules for {origin} suffice")),
        lacks => {
            let text = format!("the rules for {origin} do not {}", lacks.join(", "));
            Finding::new("CORS", severity, text)
        }
    }];
    if !lacks_optional.is_empty() {
        let text = format!(
            "the rules for {origin} do not {}: pages that call S3 themselves need it (Uppy with \
             signRequest or getCredentials)",
            lacks_optional.join(", ")
        );
        findings.push(Finding::info("CORS signer mode", text));
    }
    findings
}

async fn preflight(
    doctor: &mut Doctor<'_>,
    origin: &str,
    method: &'static str,
    required: &RequiredRules,
    severity: Severity,
) {
    let needed = match method {
        "PUT" => required.headers.as_slice(),
        _ => &[],
    };
    let request = Request::builder().method(Method::OPTIONS);
    let mut request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, method);
    if !needed.is_empty() {
        request = request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, needed.join(","));
    }
    let object = ObjectRef::new(doctor.bucket, format!("{}-none", doctor.key_prefix));
    let signed = (method, HeaderMap::new());
    let response = send(doctor, origin, &object, signed, request).await;
    let result = response.and_then(|response| {
        let methods = values(&response, header::ACCESS_CONTROL_ALLOW_METHODS);
        let headers = values(&response, header::ACCESS_CONTROL_ALLOW_HEADERS);
        let lacks = missing(&headers, needed);
        if !methods.iter().any(|one| one == method || one == "*") {
            let methods = methods.join(", ");
            return Err(format!("the service allows only the methods {methods:?}"));
        }
        match lacks.is_empty() {
            true => Ok(format!("{method} from {origin} is allowed")),
            false => Err(format!(
                "the service does not allow the headers {}",
                lacks.join(", ")
            )),
        }
    });
    doctor.report(match result {
        Ok(text) => Finding::ok("preflight", text),
        Err(why) => Finding::new(
            "preflight",
            severity,
            format!("{method} from {origin}: {why}"),
        ),
    });
}

async fn presigned_put(doctor: &mut Doctor<'_>, origin: &str, severity: Severity) {
    let object = doctor.object("by-page");
    let content_type = HeaderValue::from_static("text/x-landfall");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.clone())]);
    let request = Request::builder().method(Method::PUT);
    let request = request.header(header::CONTENT_TYPE, content_type);
    // As browsers do with an empty file; Ceph requires it.
    let request = request.header(header::CONTENT_LENGTH, 0);
    let response = send(doctor, origin, &object, ("PUT", headers), request).await;
    let result = response.and_then(|response| {
        let exposed = values(&response, header::ACCESS_CONTROL_EXPOSE_HEADERS);
        if !response.headers().contains_key(header::ETAG) {
            return Err("the response has no ETag".to_owned());
        }
        match missing(&exposed, &["etag"]).is_empty() {
            true => Ok(format!("from {origin} works, ETag can be read")),
            false => Err("the response does not expose its ETag".to_owned()),
        }
    });
    doctor.report(match result {
        Ok(text) => Finding::ok("presigned PUT", text),
        Err(why) => Finding::new("presigned PUT", severity, format!("from {origin}: {why}")),
    });
}

/// Sends a request of a page; an error if the response does not allow it to the origin.
async fn send(
    doctor: &Doctor<'_>,
    origin: &str,
    object: &ObjectRef,
    (method, headers): (&str, HeaderMap),
    request: http::request::Builder,
) -> Result<Response<Bytes>, String> {
    let method = Method::try_from(method).map_err(|error| error.to_string())?;
    let request = request.header(header::ORIGIN, origin);
    let response = doctor.send(object, &[], (method, headers), request).await?;
    let allowed = values(&response, header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let is_allowed = matches!(allowed.as_slice(), [one] if one == "*" || one == origin);
    if response.status().is_success() && is_allowed {
        return Ok(response);
    }
    let (status, allowed) = (response.status(), allowed.join(", "));
    Err(format!(
        "the service responds with {status} and allows the origins {allowed:?}"
    ))
}

fn values(response: &Response<Bytes>, name: HeaderName) -> Vec<String> {
    let values = response.headers().get_all(name);
    let values = values.iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(',')).map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}
