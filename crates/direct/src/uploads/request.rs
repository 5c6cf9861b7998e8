//! Requests as hooks and events show them, without Landfall's secrets.

use std::sync::Arc;

use http::{Uri, header, request::Parts, uri::PathAndQuery};
use landfall::{external::HookDispatcher, hook::RequestInfo};
use landfall_queue::contains_secret;
use percent_encoding::percent_decode_str;

/// Removes Landfall's keys and tokens from `request`; other credentials belong to the application, as with
/// tus.
pub(super) fn info(dispatcher: &HookDispatcher, request: &mut Parts) -> Arc<RequestInfo> {
    redact(request);
    let info = dispatcher.request(request);
    if info.token.is_none() {
        return info;
    }
    // The token was checked: hooks and sinks do not need it.
    let mut info = (*info).clone();
    info.token = None;
    Arc::new(info)
}

fn redact(request: &mut Parts) {
    let mut withheld = Vec::new();
    for (name, value) in &request.headers {
        if contains_secret(&String::from_utf8_lossy(value.as_bytes())) {
            withheld.push(name.clone());
        }
    }
    for name in withheld {
        // The whole header is removed: other cookies in it cannot be separated.
        request.headers.remove(name);
    }
    request.headers.remove("upload-token");
    request.headers.remove("uppy-auth-token");
    request.headers.remove(header::PROXY_AUTHORIZATION);
    let said = percent_decode_str(
        request
            .uri
            .path_and_query()
            .map_or("", PathAndQuery::as_str),
    );
    if contains_secret(&said.decode_utf8_lossy()) {
        request.uri = without_query(&request.uri);
    }
}

fn without_query(uri: &Uri) -> Uri {
    let path = match contains_secret(&percent_decode_str(uri.path()).decode_utf8_lossy()) {
        true => "/",
        false => uri.path(),
    };
    path.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use landfall::{Composer, Config, Handler, store::MemoryStore};

    use super::*;

    #[test]
    fn requests_for_hooks_contain_no_secret() {
        let handler = Handler::new(Config::new(Composer::join(MemoryStore::new()))).unwrap();
        let request = Request::get("/s3/params?filename=a&metadata%5Bupload_token%5D=lft%5Fx")
            .header("authorization", "Bearer lfk_secret")
            .header("upload-token", "other")
            .header("cookie", "session=1")
            .header("x-mine", "1");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let info_for_hooks = info(&handler.hook_dispatcher(), &mut parts);
        assert_eq!(info_for_hooks.uri, "/s3/params");
        assert_eq!(info_for_hooks.token, None);
        let mut names: Vec<_> = info_for_hooks
            .headers
            .keys()
            .map(|name| name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "x-mine"]);
        let request = Request::get("/t/lft_x/s3/params?filename=a").body(());
        let (mut parts, ()) = request.unwrap().into_parts();
        assert_eq!(info(&handler.hook_dispatcher(), &mut parts).uri, "/");
    }
}
