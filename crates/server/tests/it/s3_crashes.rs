//! SIGKILL during uploads to S3, and uploads started by tusd.

use std::{thread, time::Duration};

use landfall_s3::client::ObjectHeaders;

use crate::{
    s3_harness::{Bucket, id_of, object_of},
    serve_harness::{Client, MIB, Request, assert_same, content},
};

#[test]
fn nothing_acknowledged_is_lost_by_sigkill() {
    for bucket in Bucket::on_each() {
        let whole = content(1, 40 * MIB + 7);
        let mut server = bucket.server(&[]);
        let path = server.client().create(whole.len() as u64);
        let mut known = 0;
        // Chunks that end within parts, at their ends, and just after.
        let pieces = [MIB, 3 * MIB + 11, 8 * MIB, 8 * MIB + 1];
        for (round, piece) in pieces.iter().cycle().enumerate().take(6) {
            let address = server.address();
            let (from, bytes, to) = (known, whole.clone(), path.clone());
            let piece = *piece;
            let sender = thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut acknowledged = from;
                while acknowledged < bytes.len() as u64 {
                    let end = (acknowledged + piece).min(bytes.len() as u64);
                    let body = &bytes[acknowledged as usize..end as usize];
                    match client.try_ask(Request::patch(&to, acknowledged).body(body)) {
                        Ok(Some(answer)) if answer.status == 204 => acknowledged = answer.offset(),
                        Ok(Some(answer)) => panic!("{answer:?}"),
                        _ => break,
                    }
                }
                acknowledged
            });
            thread::sleep(Duration::from_millis(60 + 45 * round as u64));
            server.kill();
            let acknowledged = sender.join().unwrap();
            server = bucket.server(&[]);
            let offset = server.client().offset(&path);
            assert!(
                offset >= acknowledged,
                "round {round}: {acknowledged} acknowledged, {offset} kept"
            );
            known = offset;
        }
        let mut client = server.client();
        if known < whole.len() as u64 {
            let rest = client.patch(&path, known, &whole[known as usize..]);
            assert_eq!(rest.status, 204, "{rest:?}");
        }
        client.holds(&path, &whole);
        let id = id_of(&path);
        assert_same(&bucket.object(object_of(&id)).unwrap(), &whole);
        assert_eq!(bucket.keys().len(), 2, "{:?}", bucket.keys());
        assert_eq!(bucket.multiparts(), Vec::<String>::new());
        server.stop();
    }
}

/// The `.info` of tusd for an upload in a bucket.
fn info_of_tusd(bucket: &str, id: &str, object: &str, size: u64) -> String {
    format!(
        "{{\"ID\":\"{id}\",\"Size\":{size},\"SizeIsDeferred\":false,\"Offset\":0,\
         \"MetaData\":{{\"filename\":\"a.png\"}},\"IsPartial\":false,\"IsFinal\":false,\
         \"PartialUploads\":null,\"Storage\":{{\"Bucket\":\"{bucket}\",\"Key\":\"{object}\",\
         \"Type\":\"s3store\"}}}}"
    )
}

#[test]
fn an_upload_started_by_tusd_resumes() {
    for bucket in Bucket::on_each() {
        let whole = content(2, 17 * MIB);
        // tusd may use other part sizes, and stores a short rest as an incomplete part.
        let object = "14b1c4c77771671a8479bc0444bbc5ce";
        let (first, second) = (&whole[..5_242_880], &whole[5_242_880..12_000_000]);
        let headers = ObjectHeaders::default();
        let multipart = bucket.multipart(object, &headers, &[first, second]);
        let id = format!("{object}+{multipart}");
        let info = info_of_tusd(&bucket.name, &id, object, whole.len() as u64);
        bucket.put(&format!("{object}.info"), info.as_bytes());
        bucket.put(&format!("{object}.part"), &whole[12_000_000..13_000_000]);

        let server = bucket.server(&[]);
        let mut client = server.client();
        let path = format!("/files/{}", id.replace('+', "%2B"));
        assert_eq!(client.offset(&path), 13_000_000);
        client.resumes_to(&path, &whole);
        assert_same(&bucket.object(object).unwrap(), &whole);
        let keys: Vec<String> = bucket.keys().into_keys().collect();
        assert_eq!(keys, [object.to_owned(), format!("{object}.info")]);
        server.stop();
    }
}

#[test]
fn an_upload_that_tusd_finished_is_read_and_removed() {
    let bucket = Bucket::on_garage();
    let object = "0123456789abcdef0123456789abcdef";
    let id = format!("{object}+0a1b2c");
    bucket.put(object, b"hello");
    let info = info_of_tusd(&bucket.name, &id, object, 5);
    bucket.put(&format!("{object}.info"), info.as_bytes());
    let server = bucket.server(&[]);
    let mut client = server.client();
    let path = format!("/files/{id}");
    assert_eq!(client.offset(&path), 5);
    client.holds(&path, b"hello");
    assert_eq!(client.ask(Request::new("DELETE", &path)).status, 204);
    assert_eq!(bucket.keys().len(), 0);
    server.stop();
}
