use landfall_s3::client::{ErrorKind, fuzzing};

/// Responses of an S3 service: the first byte selects the request, the rest is the body.
///
/// Names are not empty, a listing advances, CORS rules survive a round trip, and an error is one line.
pub fn s3_response(data: &[u8]) {
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
            if let Some((parts, next)) = fuzzing::parts(body, after) {
                assert!(next.is_none_or(|next| next > after));
                assert!(parts.iter().all(|part| !part.etag.is_empty()));
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
                let again = fuzzing::cors(written.as_bytes()).expect("written rules can be parsed");
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
