//! Metrics and call logs of a server on a bucket.

use crate::{
    s3_harness::Bucket,
    serve_harness::{MIB, Request, content},
};

#[test]
fn calls_bytes_and_memory_are_metrics() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&["-max-buffered-bytes=64MiB", "-s3-concurrent-part-uploads=7"]);
    let bytes = content(1, 20 * MIB);
    let path = server.client().create(bytes.len() as u64);
    assert_eq!(server.client().patch(&path, 0, &bytes).status, 204);

    let sent = server.metric("landfall_s3_bytes_out_total{operation=\"UploadPart\"}");
    assert_eq!(sent, bytes.len() as f64);
    let calls = server.metric("landfall_s3_calls_total{operation=\"UploadPart\"}");
    assert!((2.0..=5.0).contains(&calls), "{calls}");
    let of = |name: &str| format!("tusd_s3_request_duration_ms{name}");
    let count = server.metric(&of("_count{operation=\"upload_part\"}"));
    assert_eq!(count, calls);
    let median = server.metric(&of("{operation=\"upload_part\",quantile=\"0.5\"}"));
    let most = server.metric(&of("_sum{operation=\"upload_part\"}"));
    assert!(median > 0.0 && most > 0.0, "{median} {most}");
    let name = "landfall_s3_request_duration_seconds_bucket{operation=\"UploadPart\",le=\"+Inf\"}";
    assert_eq!(server.metric(name), calls);
    assert_eq!(
        server.metric("landfall_s3_memory_limit_bytes"),
        67_108_864.0
    );
    assert_eq!(server.metric("landfall_s3_memory_bytes"), 0.0);
    assert_eq!(server.metric("tusd_s3_upload_semaphore_limit"), 7.0);
    assert_eq!(server.metric("tusd_s3_upload_semaphore_demand"), 0.0);
    // A failed call is counted as one.
    assert_eq!(server.client().head("/files/none+none").status, 404);
    let failed = server.metric("landfall_s3_errors_total{operation=\"GetObject\"}");
    assert!(failed >= 1.0, "{failed}");
    server.stop();
}

#[test]
fn s3_calls_are_logged_on_request() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&["-s3-log-api-calls"]);
    server.client().upload(b"hello");
    let line = server.says("operation=CompleteMultipartUpload");
    assert!(line.contains("level=DEBUG event=S3APICall"), "{line}");
    assert!(
        !server.log().contains("event=UploadCreated"),
        "{}",
        server.log()
    );
    server.stop();

    let server = bucket.server(&[]);
    let path = server.client().upload(b"hello");
    assert_eq!(server.client().ask(Request::get(&path)).status, 200);
    assert!(!server.log().contains("S3APICall"), "{}", server.log());
    server.stop();
}
