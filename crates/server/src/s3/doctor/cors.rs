use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use landfall_s3::client::{CorsRule, ObjectRef};

use super::{Doctor, Finding, Severity, web};
use crate::s3::{
    cors::{self, RequiredRules, find_rule, missing},
    diagnosis,
};

pub(super) async fn run(doctor: &mut Doctor<'_>, origins: &[String], may_write: bool) {
    let read = doctor.client.bucket_cors(doctor.bucket).await;
    if origins.is_empty() {
        let text = match &read {
            Err(error) => format!("cannot read the rules: {}", diagnosis::error_line(error)),
            Ok(None) => "the bucket has no rules".to_owned(),
            Ok(Some(rules)) => format!("the bucket has {} rule(s)", rules.len()),
        };
        let finding = Finding::info("CORS", text);
        let pages = doctor.s3().redirects || doctor.settings.direct.enabled;
        let advice =
            "pages use the bucket directly: check their access with --origin https://example.com";
        doctor.report(match pages {
            true => finding.advise(advice),
            false => finding,
        });
        return;
    }
    let required = RequiredRules::new(doctor.settings);
    // Without direct uploads, only redirected downloads depend on it.
    let severity = match doctor.settings.direct.enabled {
        true => Severity::Fail,
        false => Severity::Warn,
    };
    let started = doctor.report.findings().len();
    if let Err(error) = &read {
        let text = format!("cannot read the rules: {}", diagnosis::error_line(error));
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

fn evaluate(
    rules: &[CorsRule],
    origin: &str,
    required: &RequiredRules,
    severity: Severity,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report =
        |check, severity, text: String| findings.push(Finding::new(check, severity, text));
    let denied = |methods: &[&'static str]| -> Vec<&'static str> {
        let is_denied = |method: &&str| find_rule(rules, origin, method).is_none();
        methods.iter().copied().filter(is_denied).collect()
    };
    match denied(&required.methods).as_slice() {
        [] => {
            let methods = required.methods.join(" and ");
            let text = format!("{methods} from {origin} are allowed");
            report("CORS", Severity::Ok, text);
        }
        denied => {
            let text = format!("no rule allows {} from {origin}", denied.join(" and "));
            report("CORS", severity, text);
        }
    }
    if let denied @ [_, ..] = denied(&required.optional).as_slice() {
        let text = format!(
            "no rule allows {} from {origin}: pages that call S3 themselves need them (Uppy with \
             signRequest or getCredentials)",
            denied.join(" and ")
        );
        report("CORS signer mode", Severity::Note, text);
    }
    let Some(rule) = find_rule(rules, origin, "PUT") else {
        return findings;
    };
    match missing(&rule.allowed_headers, &required.headers).as_slice() {
        [] => report("CORS headers", Severity::Ok, required.headers.join(", ")),
        missing => {
            let missing = missing.join(", ");
            let text = format!("the rule for {origin} does not allow {missing}");
            report("CORS headers", severity, text);
        }
    }
    match missing(&rule.expose_headers, &["etag"]).as_slice() {
        [] => report("CORS ETag", Severity::Ok, "is exposed".to_owned()),
        _ => {
            let text = format!("the rule for {origin} does not expose ETag");
            let effect = "without which no multipart upload can be completed";
            report("CORS ETag", severity, format!("{text}, {effect}"));
        }
    }
    let form = find_rule(rules, origin, "POST").unwrap_or(rule);
    if !missing(&form.expose_headers, &["location"]).is_empty() {
        let text = "is not exposed: pages cannot read the URL of a small file";
        report("CORS Location", Severity::Note, text.to_owned());
    }
    if rule.max_age_seconds.is_none_or(|seconds| seconds < 60) {
        let text = "is short: browsers send a preflight before almost every part";
        report("CORS max age", Severity::Note, text.to_owned());
    }
    findings
}

struct CorsResponse<'a>(&'a Response<Bytes>);

impl CorsResponse<'_> {
    fn values(&self, name: HeaderName) -> Vec<String> {
        let values = self.0.headers().get_all(name);
        let values = values.iter().filter_map(|value| value.to_str().ok());
        let items = values.flat_map(|value| value.split(',')).map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    fn problem(&self, origin: &str) -> Option<String> {
        let status = self.0.status();
        let allowed = self.values(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        let is_allowed = matches!(allowed.as_slice(), [one] if one == "*" || one == origin);
        if status.is_success() && is_allowed {
            return None;
        }
        let allowed = match allowed.as_slice() {
            [] => "no origin".to_owned(),
            origins => origins.join(", "),
        };
        let text = format!("the service responds with {status} and allows {allowed}");
        Some(text)
    }
}

async fn preflight(
    doctor: &mut Doctor<'_>,
    origin: &str,
    method: &str,
    required: &RequiredRules,
    severity: Severity,
) {
    const CHECK: &str = "preflight";
    let Ok(signed_method) = Method::from_bytes(method.as_bytes()) else {
        return;
    };
    let wanted_headers = match method {
        "PUT" => required.headers.as_slice(),
        _ => &[],
    };
    let request = Request::builder().method(Method::OPTIONS);
    let mut request = request.header(header::ORIGIN, origin);
    request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, method);
    if !wanted_headers.is_empty() {
        let wanted_headers = wanted_headers.join(",");
        request = request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, wanted_headers);
    }
    let object = ObjectRef::new(doctor.bucket, format!("{}-none", doctor.key_prefix));
    let signed = (signed_method, HeaderMap::new());
    let response = match send(doctor, &object, signed, request).await {
        Ok(response) => response,
        Err(error) => return doctor.report(Finding::new(CHECK, severity, error)),
    };
    let cors = CorsResponse(&response);
    let methods = cors.values(header::ACCESS_CONTROL_ALLOW_METHODS);
    let headers = cors.values(header::ACCESS_CONTROL_ALLOW_HEADERS);
    let missing = missing(&headers, wanted_headers).join(", ");
    let problem = if let Some(problem) = cors.problem(origin) {
        problem
    } else if !methods.iter().any(|one| one == method || one == "*") {
        let methods = methods.join(", ");
        format!("the service allows only the methods {methods:?}")
    } else if !missing.is_empty() {
        format!("the service does not allow the headers {missing}")
    } else {
        let text = format!("{method} from {origin} is allowed");
        return doctor.report(Finding::ok(CHECK, text));
    };
    let text = format!("{method} from {origin}: {problem}");
    doctor.report(Finding::new(CHECK, severity, text));
}

async fn presigned_put(doctor: &mut Doctor<'_>, origin: &str, severity: Severity) {
    const CHECK: &str = "presigned PUT";
    let object = doctor.object("by-page");
    let content_type = HeaderValue::from_static("text/x-landfall");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.clone())]);
    let request = Request::builder().method(Method::PUT);
    let request = request.header(header::ORIGIN, origin);
    let request = request.header(header::CONTENT_TYPE, content_type);
    // As browsers do with an empty file; Ceph requires it.
    let request = request.header(header::CONTENT_LENGTH, 0);
    let response = match send(doctor, &object, (Method::PUT, headers), request).await {
        Ok(response) => response,
        Err(error) => return doctor.report(Finding::new(CHECK, severity, error)),
    };
    let cors = CorsResponse(&response);
    let exposed = cors.values(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    let problem = if let Some(problem) = cors.problem(origin) {
        problem
    } else if !response.headers().contains_key(header::ETAG) {
        "the response has no ETag".to_owned()
    } else if !missing(&exposed, &["etag"]).is_empty() {
        "the response does not expose its ETag".to_owned()
    } else {
        let text = format!("from {origin} works, ETag can be read");
        return doctor.report(Finding::ok(CHECK, text));
    };
    let text = format!("from {origin}: {problem}");
    doctor.report(Finding::new(CHECK, severity, text));
}

async fn send(
    doctor: &Doctor<'_>,
    object: &ObjectRef,
    (method, headers): (Method, HeaderMap),
    request: http::request::Builder,
) -> Result<Response<Bytes>, String> {
    let signed = doctor.presign(method, object, &[], &headers).await;
    let url = signed.map_err(|error| diagnosis::error_line(&error))?;
    let request = request.uri(url).body(());
    web::send(request.map_err(|error| error.to_string())?).await
}
