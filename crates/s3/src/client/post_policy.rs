use std::{ops::RangeInclusive, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Client, ObjectRef,
    error::{Error, ErrorKind, Result},
    sign::{ALGORITHM, S3, Signer},
};

const FILENAME: &str = "${filename}";

/// A signed form that uploads one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostPolicy {
    /// URL to POST the form to: the bucket, with a trailing slash.
    pub url: String,
    /// Names and values of the form fields, in order; the field `file` follows them.
    pub fields: Vec<(String, String)>,
}

impl Client {
    /// Signs a form for writing one object during `lifetime`.
    ///
    /// `lifetime` is 1 s to 7 days; the form expires earlier if the credentials do. `size` limits
    /// the length of the file, in bytes. The form is valid only with exactly these `fields` (such
    /// as `Content-Type`, `success_action_status`, `acl`, `x-amz-meta-NAME`), whose names are
    /// returned in lower case. No request is sent.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`]; [`ErrorKind::Other`] for a lifetime out of range, or a key
    /// with `${filename}`, which services replace with a name that the client chooses.
    pub async fn sign_post_policy(
        &self,
        object: &ObjectRef,
        fields: &[(String, String)],
        size: Option<RangeInclusive<u64>>,
        lifetime: Duration,
    ) -> Result<PostPolicy> {
        let error = |kind| Error::new(kind, "SignPostPolicy", object.to_string());
        if object.key.contains(FILENAME) {
            return Err(error(ErrorKind::Other).with_message(format!(
                "the key of a POST policy must not contain {FILENAME}"
            )));
        }
        let credentials = self.credentials_for(lifetime, error).await?;
        let inner = &self.inner;
        let region = inner.regions.get(&object.bucket);
        let now = (inner.settings.clock)();
        let ends = Timestamp::try_from(now + lifetime)
            .map_err(|source| error(ErrorKind::Other).with_source(source))?;
        let signer = Signer::new(&credentials, &region, S3, now);

        let named = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let mut form: Vec<_> = fields.iter().map(named).collect();
        let mut push = |name: &str, value: &str| form.push((name.to_owned(), value.to_owned()));
        push("key", &object.key);
        push("x-amz-algorithm", ALGORITHM);
        push("x-amz-credential", &signer.credential());
        push("x-amz-date", signer.date_time());
        if let Some(token) = &credentials.session_token {
            push("x-amz-security-token", token);
        }

        let mut conditions = vec![json!({ "bucket": object.bucket })];
        let exactly = |(name, value): &(String, String)| {
            Value::Object(
                [(name.clone(), value.as_str().into())]
                    .into_iter()
                    .collect(),
            )
        };
        conditions.extend(form.iter().map(exactly));
        if let Some(size) = size {
            conditions.push(json!(["content-length-range", size.start(), size.end()]));
        }
        let policy = json!({
            "expiration": ends.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
            "conditions": conditions,
        });
        let policy = STANDARD.encode(policy.to_string());
        let signature = signer.sign(&policy);
        form.push(("policy".to_owned(), policy));
        form.push(("x-amz-signature".to_owned(), signature));

        let mut url = inner.address.target(&region, &object.bucket, None).url("");
        if !url.ends_with('/') {
            url.push('/');
        }
        Ok(PostPolicy { url, fields: form })
    }
}
