//! Forms that carry a signed policy: uploads by `multipart/form-data` POST.

use std::{ops::RangeInclusive, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Client, Place,
    error::{Error, ErrorKind, Result},
    sign::{ALGORITHM, S3, Signer},
};

/// What services put the file's name for. A key that holds it wouldn't be the one that was signed.
const FILENAME: &str = "${filename}";

/// A form that uploads one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostForm {
    /// Where to POST it: the bucket, with a slash at the end.
    pub url: String,
    /// Names and values in the order in which they are to be sent; the field `file` comes after them.
    pub fields: Vec<(String, String)>,
}

impl Client {
    /// A form by which anybody may write the object for `lifetime` (1 s to 7 days; less if the
    /// credentials end before), with a length in `size` (in bytes) if that is given, and with just
    /// these `fields` (such as `Content-Type`, `success_action_status`, `acl`, `x-amz-meta-NAME`; their
    /// names come out in lower case). Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`], and [`ErrorKind::Other`] for a lifetime out of bounds or a key
    /// with `${filename}`, which services put a name of the client's own for.
    pub async fn sign_form(
        &self,
        place: &Place,
        fields: &[(String, String)],
        size: Option<RangeInclusive<u64>>,
        lifetime: Duration,
    ) -> Result<PostForm> {
        let error = |kind| Error::new(kind, "SignForm", place.to_string());
        if place.key.contains(FILENAME) {
            return Err(error(ErrorKind::Other)
                .with_message(format!("the key of a form can't hold {FILENAME}")));
        }
        let keys = self.keys_for(lifetime, error).await?;
        let inner = &self.inner;
        let region = inner.regions.of(&place.bucket);
        let now = (inner.settings.now)();
        let ends = Timestamp::try_from(now + lifetime)
            .map_err(|source| error(ErrorKind::Other).with_source(source))?;
        let signer = Signer::new(&keys, &region, S3, now);

        let named = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let mut form: Vec<_> = fields.iter().map(named).collect();
        let mut push = |name: &str, value: &str| form.push((name.to_owned(), value.to_owned()));
        push("key", &place.key);
        push("x-amz-algorithm", ALGORITHM);
        push("x-amz-credential", &signer.credential());
        push("x-amz-date", signer.date_time());
        if let Some(token) = &keys.session_token {
            push("x-amz-security-token", token);
        }

        let mut conditions = vec![json!({ "bucket": place.bucket })];
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
        let signature = signer.sign_policy(&policy);
        form.push(("policy".to_owned(), policy));
        form.push(("x-amz-signature".to_owned(), signature));

        let mut url = inner.address.target(&region, &place.bucket, None).url("");
        if !url.ends_with('/') {
            url.push('/');
        }
        Ok(PostForm { url, fields: form })
    }
}
