//! Forms that carry a signed policy: uploads by `multipart/form-data` POST.

use std::{ops::RangeInclusive, time::Duration};

use super::{Client, Place, error::Result};

/// A form that uploads one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostForm {
    /// Where to POST it: the bucket, with a slash at the end.
    pub url: String,
    /// Names and values in the order in which they are to be sent; the field `file` comes after them.
    pub fields: Vec<(String, String)>,
}

impl Client {
    /// A form by which anybody may write the object for `lifetime` (from 1 s on), with a length in
    /// `size` (in bytes) if that is given, and with just these `fields` (such as `Content-Type`,
    /// `success_action_status`, `acl`, `x-amz-meta-NAME`). Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`](super::ErrorKind::BadCredentials), and
    /// [`ErrorKind::Other`](super::ErrorKind::Other) for a lifetime out of bounds.
    pub async fn sign_form(
        &self,
        place: &Place,
        fields: &[(String, String)],
        size: Option<RangeInclusive<u64>>,
        lifetime: Duration,
    ) -> Result<PostForm> {
        todo!()
    }
}
