//! `X-HTTP-Method-Override`.

use crate::context::Context;
use crate::requirement::CheckResult;

const OVERRIDE: &str = "Core Protocol, Headers, X-HTTP-Method-Override";
const FIELD: &str = "X-HTTP-Method-Override";

checks! {
    Must "tus/method-override/post-as-patch", OVERRIDE,
        "A POST with X-HTTP-Method-Override: PATCH is a PATCH." => as_patch("POST");
    Must "tus/method-override/post-as-head", OVERRIDE,
        "A POST with X-HTTP-Method-Override: HEAD is a HEAD." => post_as_head;
    Must "tus/method-override/post-as-delete", OVERRIDE, [Termination],
        "A POST with X-HTTP-Method-Override: DELETE is a DELETE." => as_delete("POST");
    Must "tus/method-override/put-as-patch", OVERRIDE,
        "The method of the request is ignored: a PUT can be a PATCH." => as_patch("PUT");
    Must "tus/method-override/put-as-delete", OVERRIDE, [Termination],
        "The method of the request is ignored: a PUT can be a DELETE." => as_delete("PUT");
    Must "tus/method-override/delete-as-patch", OVERRIDE,
        "The method of the request is ignored: a DELETE can be a PATCH, and removes nothing." => as_patch("DELETE");
    Must "tus/method-override/get-as-delete", OVERRIDE, [Termination],
        "The method of the request is ignored, also if it is a safe one." => as_delete("GET");
    Must "tus/method-override/same-method", OVERRIDE,
        "An override with the method of the request changes nothing." => as_patch("PATCH");
    Must "tus/method-override/offset-is-checked", OVERRIDE,
        "An overridden PATCH obeys the rules of PATCH: another offset is 409." => offset_is_checked;
}

async fn as_patch(c: &Context, method: &str) -> CheckResult {
    let url = c.create(10).await?;
    let mut request = c.patch(&url, 0, b"hello").field(FIELD, "PATCH");
    request.method = method.to_owned();
    let response = c.send(request).await?;
    response.expect(&[204])?;
    response.expect_number("Upload-Offset", 5)?;
    c.expect_offset(&url, 5).await
}

async fn post_as_head(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    c.append(&url, 0, b"hello").await?;
    let request = c.tus("POST", &url).field(FIELD, "HEAD");
    let mut connection = c.start(&request.body([]), b"").await?;
    // It is open whether the response has content, as that to POST, or none, as that to HEAD.
    let head = connection.interim_within(c.options.timeout).await?;
    head.expect_stored(5)
}

async fn as_delete(c: &Context, method: &str) -> CheckResult {
    let url = c.create(10).await?;
    let request = c.tus(method, &url).field(FIELD, "DELETE");
    c.send(request.body(Vec::new())).await?.expect(&[204])?;
    c.send(c.tus("HEAD", &url)).await?.expect(&[404, 410])
}

async fn offset_is_checked(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    let mut request = c.patch(&url, 3, b"lo").field(FIELD, "PATCH");
    request.method = "POST".to_owned();
    c.send(request).await?.expect(&[409])?;
    c.expect_offset(&url, 0).await
}
