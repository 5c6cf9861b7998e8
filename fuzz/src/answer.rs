use landfall_s3::client::{ErrorKind, fuzzing};

/// An S3 service's answers: the first byte says to which question, the rest is the body.
///
/// What is read holds what its users rely on: names are never empty, a listing always goes on
/// further than it was, rules that are written come back, and an error is one line.
pub fn s3_answer(data: &[u8]) {
    let Some((&question, body)) = data.split_first() else {
        return;
    };
    match question % 8 {
        0 => {
            if let Some(id) = fuzzing::upload_id(body) {
                assert!(!id.is_empty());
            }
        }
        1 => {
            if let Some(etag) = fuzzing::result_etag(body) {
                assert!(!etag.is_empty());
            }
        }
        2 => {
            let Some((&after, body)) = body.split_first() else {
                return;
            };
            let after = u32::from(after);
            if let Some(page) = fuzzing::parts(body, after) {
                assert!(page.next.is_none_or(|next| next > after));
                assert!(page.parts.iter().all(|part| !part.etag.is_empty()));
            }
        }
        3 => {
            if let Some(page) = fuzzing::multiparts(body) {
                assert!(page.next.is_none_or(|(key, _)| !key.is_empty()));
                let mut uploads = page.uploads.iter();
                assert!(
                    uploads.all(|upload| !upload.key.is_empty() && !upload.upload_id.is_empty())
                );
            }
        }
        4 => {
            if let Some(page) = fuzzing::objects(body) {
                assert!(page.next.is_none_or(|next| !next.is_empty()));
                assert!(page.objects.iter().all(|object| !object.key.is_empty()));
            }
        }
        5 => {
            if let Some(rules) = fuzzing::cors(body) {
                let written = fuzzing::cors_configuration(&rules);
                let again = fuzzing::cors(written.as_bytes()).expect("what was written is read");
                assert_eq!(again.len(), rules.len());
            }
        }
        question => {
            let status = if question == 6 { 503 } else { 400 };
            let (kind, text) = fuzzing::error_response(status, body);
            assert!(!text.chars().any(char::is_control), "{text:?}");
            if status == 503 && text.contains(": 503 Service Unavailable") {
                assert_eq!(
                    kind,
                    ErrorKind::Unavailable { retry_after: None },
                    "{text:?}"
                );
            }
        }
    }
}
