//! The request behind a question or an event, without what only Landfall is to know.

use std::sync::Arc;

use http::{Uri, header, request::Parts, uri::PathAndQuery};
use landfall::{
    direct::HookDispatcher,
    hook::{RequestInfo, UploadToken},
};
use landfall_grants::caller::KeySecret;
use percent_encoding::percent_decode_str;

/// The request as hooks and sinks are told of it. Landfall's own keys and tokens are taken out of
/// `request`; what else shows who asks is the application's, as with tus.
pub(super) fn info(audience: &HookDispatcher, request: &mut Parts) -> Arc<RequestInfo> {
    withhold(request);
    let info = audience.request(request);
    if info.token.is_none() {
        return info;
    }
    // Whose grant it is has been found out: nobody behind this needs to see it.
    let mut info = (*info).clone();
    info.token = None;
    Arc::new(info)
}

fn withhold(request: &mut Parts) {
    let mut withheld = Vec::new();
    for (name, value) in &request.headers {
        if is_secret(&String::from_utf8_lossy(value.as_bytes())) {
            withheld.push(name.clone());
        }
    }
    for name in withheld {
        // Cookies hold more than that one, but nobody can tell them apart.
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
    if is_secret(&said.decode_utf8_lossy()) {
        request.uri = without_query(&request.uri);
    }
}

fn is_secret(text: &str) -> bool {
    text.contains(UploadToken::PREFIX) || text.contains(KeySecret::PREFIX)
}

/// A secret in the path has no business there either.
fn without_query(uri: &Uri) -> Uri {
    let path = match is_secret(&percent_decode_str(uri.path()).decode_utf8_lossy()) {
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
    fn no_secret_is_told() {
        let handler = Handler::new(Config::new(Composer::join(MemoryStore::new()))).unwrap();
        let request = Request::get("/s3/params?filename=a&metadata%5Bupload_token%5D=lft%5Fx")
            .header("authorization", "Bearer lfk_secret")
            .header("upload-token", "other")
            .header("cookie", "session=1")
            .header("x-mine", "1");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let told = info(&handler.hook_dispatcher(), &mut parts);
        assert_eq!(told.uri, "/s3/params");
        assert_eq!(told.token, None);
        let mut names: Vec<_> = told.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "x-mine"]);
        let request = Request::get("/t/lft_x/s3/params?filename=a").body(());
        let (mut parts, ()) = request.unwrap().into_parts();
        assert_eq!(info(&handler.hook_dispatcher(), &mut parts).uri, "/");
    }
}
