//! What a service refuses until somebody changes something: each has its own status and sentence.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use landfall::{Composer, Config, Handler, service::ResponseBody};
use landfall_objects::Cloud as _;
use landfall_s3::{S3Options, S3Store, lease::keeps_prefix};
use landfall_test_services::{
    Access, Ceph, Garage, Moto, Proxy,
    proxy::{Fault, Operation, Rule},
};

use crate::support::{
    append, client, client_without_retries, create, options, pattern, read, request,
};

fn handler(access: &Access, options: &S3Options) -> Handler {
    let store = S3Store::new(client_without_retries(access), options.clone()).unwrap();
    Handler::new(Config::new(Composer::join(store))).unwrap()
}

async fn send(handler: &Handler, method: &str, path: &str, body: &Bytes) -> Response<ResponseBody> {
    let mut request: http::Request<Full<Bytes>> = request(method, body.clone());
    *request.uri_mut() = path.parse().unwrap();
    if method == "POST" {
        let length = body.len().into();
        request.headers_mut().insert("Upload-Length", length);
    }
    handler.handle(request).await
}

async fn text(response: Response<ResponseBody>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reached_quota_is_507() {
    let garage = Garage::shared();
    let options = options(&garage.bucket("quota"));
    garage.set_max_size(&options.bucket, 1000);
    let handler = handler(&garage.access(), &options);
    let refused = send(&handler, "POST", "/files/", &pattern(1, 2000)).await;
    assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert_eq!(refused.headers()["retry-after"], "60");
    let text = text(refused).await;
    assert!(
        text.starts_with("ERR_STORAGE_FULL: no space is left"),
        "{text}"
    );
    garage.set_max_size(&options.bucket, 1_000_000);
    let created = send(&handler, "POST", "/files/", &pattern(1, 2000)).await;
    assert_eq!(created.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_403_and_head_keeps_the_upload() {
    let garage = Garage::shared();
    let options = options(&garage.bucket("rights"));
    let reader = garage.limited_access(&options.bucket, &["read"]);
    let handler = handler(&reader, &options);
    let refused = send(&handler, "POST", "/files/", &pattern(1, 10)).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(refused.headers()["retry-after"], "60");
    let text = text(refused).await;
    assert!(text.starts_with("ERR_STORAGE_REFUSED: "), "{text}");
    assert!(text.contains("its operator has to permit it"), "{text}");
    assert!(!text.contains(&reader.access_key), "{text}");

    // Any other status would tell clients that the upload is lost.
    let writer = garage.limited_access(&options.bucket, &["write"]);
    let handler = self::handler(&writer, &options);
    let head = send(&handler, "HEAD", "/files/abc", &Bytes::new()).await;
    assert_eq!(head.status(), StatusCode::LOCKED);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_right_is_403_until_it_is_given() {
    let garage = Garage::shared();
    let options = options(&garage.bucket("rights"));
    let proxy = Proxy::start(&garage.access());
    let access = garage.access().through_proxy(&proxy);
    let direct = handler(&garage.access(), &options);
    let mut request = request("POST", pattern(1, 10));
    request.headers_mut().insert("Upload-Length", 20.into());
    let created = direct.handle(request).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let path = created.headers()["location"].to_str().unwrap().to_owned();
    for (operation, method, wanted) in [
        (Operation::GetObject, "HEAD", 423),
        (Operation::ListParts, "HEAD", 423),
        (Operation::HeadObject, "PATCH", 403),
        (Operation::ListParts, "PATCH", 403),
        (Operation::AbortMultipartUpload, "DELETE", 403),
        (Operation::DeleteObject, "DELETE", 403),
    ] {
        let code = "AccessDenied";
        proxy.inject(Rule::on(operation), Fault::Answer { status: 403, code });
        // Without what another request has read.
        let handler = handler(&access, &options);
        let response = send(&handler, method, &path, &Bytes::new()).await;
        assert_eq!(response.status().as_u16(), wanted, "{operation:?} {method}");
        proxy.revive();
    }
    let handler = handler(&access, &options);
    let removed = send(&handler, "DELETE", &path, &Bytes::new()).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_status_and_sentence() {
    let garage = Garage::shared();
    let options = options(&garage.bucket("refusals"));
    let proxy = Proxy::start(&garage.access());
    let handler = handler(&garage.access().through_proxy(&proxy), &options);
    let created = send(&handler, "POST", "/files/", &pattern(1, 10)).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let path = created.headers()["location"].to_str().unwrap().to_owned();
    let data = path
        .trim_start_matches("/files/")
        .split('+')
        .next()
        .unwrap()
        .to_owned();
    for (method, target, operation, status, code, wanted, sentence) in [
        (
            "POST",
            "/files/",
            Operation::PutObject,
            403,
            "QuotaExceeded",
            507,
            "no space is left",
        ),
        (
            "POST",
            "/files/",
            Operation::PutObject,
            507,
            "XMinioStorageFull",
            507,
            "no space is left",
        ),
        (
            "POST",
            "/files/",
            Operation::CreateMultipartUpload,
            403,
            "AccessDenied",
            403,
            "permit it",
        ),
        (
            "POST",
            "/files/",
            Operation::PutObject,
            403,
            "AccountProblem",
            403,
            "closed or suspended",
        ),
        (
            "POST",
            "/files/",
            Operation::PutObject,
            403,
            "UserSuspended",
            403,
            "closed or suspended",
        ),
        (
            "GET",
            path.as_str(),
            Operation::GetObject,
            403,
            "InvalidObjectState",
            403,
            "is archived",
        ),
        // Credentials change while a server runs.
        (
            "POST",
            "/files/",
            Operation::PutObject,
            400,
            "ExpiredToken",
            503,
            "try again later",
        ),
    ] {
        let (is_read, data) = (method == "GET", data.clone());
        let rule = Rule::on(operation).matching(move |call| !is_read || call.key.ends_with(&data));
        proxy.inject(rule, Fault::Answer { status, code });
        let response = send(&handler, method, target, &pattern(1, 10)).await;
        assert_eq!(response.status().as_u16(), wanted, "{method} {code}");
        let text = text(response).await;
        assert!(text.contains(sentence), "{code}: {text}");
        proxy.revive();
    }
}

/// moto and AWS take only writes with a digest into such a bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_default_retention_stores_uploads() {
    let moto = Moto::shared();
    let bucket = moto.bucket_with_retention("retention");
    let store = S3Store::new(client(&moto.access()), options(&bucket)).unwrap();
    let bytes = pattern(3, 12 << 20);
    let upload = create(&store, bytes.len() as u64).await;
    append(&store, &upload.id, 1, &bytes).await;
    crate::support::finish(&store, &upload, 1).await;
    crate::support::assert_same(&read(&store, &upload).await, &bytes);
}

/// The keys are tusd's.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_may_begin_with_a_slash_and_have_empty_segments() {
    let (garage, ceph) = (Garage::shared(), Ceph::shared());
    for (access, bucket) in [
        (garage.access(), garage.bucket("prefix")),
        (ceph.access(), ceph.bucket("prefix")),
    ] {
        for prefix in ["/uploads", "//", "a//b"] {
            let slash = if prefix.ends_with('/') { "" } else { "/" };
            let full = format!("{prefix}{slash}");
            let is_kept = keeps_prefix(&client(&access), &bucket, &full)
                .await
                .unwrap();
            // Garage removes the slash: the server does not start.
            assert_eq!(is_kept, access.region != "garage" || prefix == "a//b");
            if !is_kept {
                continue;
            }
            let mut options = options(&bucket);
            options.object_prefix = prefix.into();
            let store = S3Store::new(client(&access), options).unwrap();
            let bytes = pattern(4, 6 << 20);
            let upload = create(&store, bytes.len() as u64).await;
            append(&store, &upload.id, 1, &bytes.slice(..100)).await;
            append(&store, &upload.id, 2, &bytes.slice(100..)).await;
            crate::support::finish(&store, &upload, 2).await;
            crate::support::assert_same(&read(&store, &upload).await, &bytes);
            let listed = store
                .client()
                .list_objects(&bucket, &full, None, 10)
                .await
                .unwrap();
            assert_eq!(listed.objects.len(), 2, "{prefix}: {listed:?}");
        }
    }
    let mut options = options("b");
    options.object_prefix = "a/../b".into();
    let refused = S3Store::new(client(&garage.access()), options).unwrap_err();
    assert!(refused.to_string().contains("segment . or .."), "{refused}");
}

/// Ceph takes names with `-` and `_` for the same, and signs tabs as spaces.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_can_be_signed_on_ceph() {
    let ceph = Ceph::shared();
    let options = options(&ceph.bucket("metadata"));
    let handler = handler(&ceph.access(), &options);
    let mut request = request("POST", pattern(1, 10));
    let headers = request.headers_mut();
    headers.insert("Upload-Length", 10.into());
    // "one\ttwo", "x", "y"
    let metadata = "a b25lCXR3bw==,c-d eA==,c_d eQ==";
    headers.insert("Upload-Metadata", metadata.parse().unwrap());
    let created = handler.handle(request).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let path = created.headers()["location"].to_str().unwrap().to_owned();
    let head = send(&handler, "HEAD", &path, &Bytes::new()).await;
    // The description has all of it.
    assert_eq!(head.headers()["upload-metadata"], metadata);
}
