//! OPTIONS, and the fields that describe the server.

use crate::check::{Check, CheckResult, Finding, ensure};
use crate::client::{Request, Response};
use crate::context::Context;

const OPTIONS: &str = "Core Protocol, OPTIONS";
const FIELDS: &str = "Core Protocol, Headers";

pub(super) const CHECKS: &[Check] = &[
    Check::must(
        "tus/options/succeeds",
        OPTIONS,
        "A successful response to OPTIONS has the status 200 or 204.",
        |c| Box::pin(succeeds(c)),
    ),
    Check::must(
        "tus/options/has-version",
        OPTIONS,
        "A successful response to OPTIONS has Tus-Version.",
        |c| Box::pin(has_version(c)),
    ),
];

async fn options(c: &Context) -> CheckResult<Response> {
    c.send(Request::new("OPTIONS", c.endpoint())).await
}

async fn succeeds(c: &Context) -> CheckResult {
    options(c).await?.expect(&[200, 204])?;
    Ok(())
}

async fn has_version(c: &Context) -> CheckResult {
    let response = options(c).await?;
    let versions = response.list("Tus-Version");
    ensure!(
        versions.iter().any(|version| version == "1.0.0"),
        "Tus-Version does not contain 1.0.0"
    );
    if versions.is_empty() {
        return Err(Finding::failed("there is no Tus-Version"));
    }
    Ok(())
}
