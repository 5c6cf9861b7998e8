//! Parses the method and path of a request: API family, upload token in the path, and route.
//!
//! axum does not match these paths: S3's ids may contain encoded slashes, and the token must be removed first. Logs
//! have a path with a token only as `redacted` or `redacted_path` returns it.

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode, header};
use landfall_access::Problem;
use percent_encoding::percent_decode_str;

use super::problem::{self, ApiFamily};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MatchedRoute<'a> {
    pub(super) family: ApiFamily,
    pub(super) token: Option<&'a str>,
    rest: &'a str,
}

impl<'a> MatchedRoute<'a> {
    /// `None` if the path belongs to no API family.
    pub(super) fn find(base: &str, path: &'a str) -> Option<Self> {
        let below = path.strip_prefix(base)?;
        match below.strip_prefix("/t/") {
            Some(below) => {
                let (token, below) = below.split_once('/')?;
                let token = Some(token).filter(|token| !token.is_empty())?;
                Self::family(below, Some(token))
            }
            None => Self::family(below.strip_prefix('/')?, None),
        }
    }

    /// Repeated slashes are ignored: clients append a path to an address that ends with one.
    fn family(below: &'a str, token: Option<&'a str>) -> Option<Self> {
        let below = below.trim_start_matches('/');
        let length = below.find('/').unwrap_or(below.len());
        let (name, rest) = below.split_at(length);
        let family = match name {
            "api" => ApiFamily::Api,
            "s3" => ApiFamily::S3,
            _ => return None,
        };
        Some(Self {
            family,
            token,
            rest,
        })
    }

    pub(super) fn redacted(&self, base: &str) -> String {
        let family = match self.family {
            ApiFamily::Api => "api",
            ApiFamily::S3 => "s3",
        };
        format!("{base}/{family}{}", self.rest)
    }

    pub(super) fn route(&self, method: &Method) -> Result<Route<'a>, Problem> {
        let rest = self.rest.strip_suffix('/').unwrap_or(self.rest);
        let names: Vec<_> = rest.split('/').skip(1).collect();
        let (route, allowed) = match (self.family, &*names) {
            (ApiFamily::Api, ["sign"]) => (Route::Sign, "POST"),
            (ApiFamily::Api, ["sign_s3"]) => (Route::SignS3, "POST"),
            (ApiFamily::Api, ["complete" | "complete_s3"]) => (Route::Check, "POST"),
            (ApiFamily::Api, ["progress" | "progress_s3"]) => (Route::Progress, "POST"),
            (ApiFamily::Api, ["s3_events"]) => (Route::Notifications, "POST"),
            (ApiFamily::S3, ["params"]) => (Route::Params, "GET"),
            (ApiFamily::S3, ["sts"]) => (Route::Credentials, "GET"),
            (ApiFamily::S3, ["presign"]) => (Route::Presign, "POST"),
            (ApiFamily::S3, ["multipart"]) => (Route::Create, "POST"),
            (ApiFamily::S3, ["multipart", id]) if *method == Method::DELETE => {
                (Route::Abort(upload_id(id)?), "GET, DELETE")
            }
            (ApiFamily::S3, ["multipart", id]) => (Route::Parts(upload_id(id)?), "GET, DELETE"),
            (ApiFamily::S3, ["multipart", id, "complete"]) => {
                (Route::Complete(upload_id(id)?), "POST")
            }
            (ApiFamily::S3, ["multipart", id, "batch"]) => (Route::Batch(upload_id(id)?), "GET"),
            (ApiFamily::S3, ["multipart", id, number]) => {
                (Route::Part(upload_id(id)?, number), "GET")
            }
            _ => return Err(problem::nothing_here()),
        };
        if allowed.split(", ").any(|name| name == method.as_str()) {
            return Ok(route);
        }
        let why = "this method is not allowed here";
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, why);
        Err(problem.with_header(header::ALLOW, HeaderValue::from_static(allowed)))
    }
}

/// Returns a path without a route for the log. A token may be at another place than in a route.
pub(super) fn redacted_path(base: &str, path: &str) -> String {
    let start = path.strip_prefix(base).map_or(0, |_| base.len());
    match path[start..].find("/t/") {
        Some(at) => format!("{}/t/-", &path[..start + at]),
        None => path.to_owned(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Sign,
    SignS3,
    Check,
    Progress,
    Notifications,
    Params,
    Credentials,
    Presign,
    Create,
    Parts(Cow<'a, str>),
    Part(Cow<'a, str>, &'a str),
    Batch(Cow<'a, str>),
    Complete(Cow<'a, str>),
    Abort(Cow<'a, str>),
}

fn upload_id(segment: &str) -> Result<Cow<'_, str>, Problem> {
    let id = percent_decode_str(segment).decode_utf8();
    id.ok()
        .filter(|id| !id.is_empty())
        .ok_or_else(problem::nothing_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route<'a>(method: &str, path: &'a str) -> Result<Route<'a>, u16> {
        let located = MatchedRoute::find("", path).ok_or(404_u16)?;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let route = located.route(&method);
        route.map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn every_route_is_found() {
        let id = || Cow::from("a/b+c%2F");
        for (method, path, wanted) in [
            ("POST", "/api/sign", Route::Sign),
            ("POST", "/api/sign_s3", Route::SignS3),
            ("POST", "/api/complete", Route::Check),
            ("POST", "/api/complete_s3", Route::Check),
            ("POST", "/api/progress", Route::Progress),
            ("POST", "/api/progress_s3", Route::Progress),
            ("POST", "/api/s3_events", Route::Notifications),
            ("GET", "/s3/params", Route::Params),
            ("GET", "/s3/sts", Route::Credentials),
            ("POST", "/s3/presign", Route::Presign),
            ("POST", "/s3/multipart", Route::Create),
            ("GET", "/s3/multipart/a%2Fb+c%252F", Route::Parts(id())),
            ("DELETE", "/s3/multipart/a%2Fb+c%252F", Route::Abort(id())),
            (
                "GET",
                "/s3/multipart/a%2Fb+c%252F/batch",
                Route::Batch(id()),
            ),
            (
                "GET",
                "/s3/multipart/a%2Fb+c%252F/7",
                Route::Part(id(), "7"),
            ),
            (
                "POST",
                "/s3/multipart/a%2Fb+c%252F/complete",
                Route::Complete(id()),
            ),
        ] {
            assert_eq!(route(method, path), Ok(wanted.clone()), "{path}");
            assert_eq!(route(method, &format!("{path}/")), Ok(wanted.clone()));
            assert_eq!(route(method, &format!("/{path}")), Ok(wanted.clone()));
            assert_eq!(
                route(method, &format!("/t/lft_x{path}")),
                Ok(wanted.clone())
            );
            assert_eq!(route(method, &format!("/t/lft_x/{path}")), Ok(wanted));
            assert_eq!(route("PUT", path), Err(405), "{path}");
            assert_eq!(route(method, &format!("/x{path}")), Err(404));
            assert_eq!(route(method, &format!("/t{path}")), Err(404));
            assert_eq!(route(method, &format!("/t/{path}")), Err(404));
        }
    }

    #[test]
    fn unknown_paths_get_404() {
        for path in [
            "",
            "/",
            "/api",
            "/s3",
            "/s3/",
            "/s3x/params",
            "/api/params",
            "/s3/sign_s3",
            "/s3/params/x",
            "/s3/multipart/%ff",
            "/s3/multipart//1",
            "/s3/multipart/a/1/2",
            "/s3/multipart/a/1/2/3/4",
            "/t",
            "/t/",
            "/t/a",
            "/t/a/b/s3/params",
        ] {
            assert_eq!(route("GET", path), Err(404), "{path}");
        }
    }

    #[test]
    fn tokens_are_redacted() {
        let located = MatchedRoute::find("/up", "/up/t/lft_secret//s3/multipart/a%2Fb/7/").unwrap();
        assert_eq!(located.token, Some("lft_secret"));
        assert_eq!(located.redacted("/up"), "/up/s3/multipart/a%2Fb/7/");
        assert!(MatchedRoute::find("/up", "/t/lft_secret/s3/params").is_none());
        for (path, logged) in [
            ("/up/t/lft_secret/nothing", "/up/t/-"),
            ("/up/t//lft_secret/s3/params", "/up/t/-"),
            ("/up//t/lft_secret/s3/params", "/up//t/-"),
            ("//up/t/lft_secret/s3/params", "//up/t/-"),
            ("/up/up/t/lft_secret/s3/params", "/up/up/t/-"),
        ] {
            assert!(MatchedRoute::find("/up", path).is_none(), "{path}");
            assert_eq!(redacted_path("/up", path), logged);
        }
        assert_eq!(redacted_path("/a/t/b", "/a/t/b/x"), "/a/t/b/x");
        assert_eq!(redacted_path("/up", "/up/s3/nothing"), "/up/s3/nothing");
    }
}
