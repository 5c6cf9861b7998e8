//! A look whether the object of an upload is there, and right.

use std::sync::Arc;

use http::request::Parts;
use landfall::{
    hook::{RequestInfo, is_of_type},
    upload::UploadId,
};
use landfall_s3::client::{ErrorKind, ObjectHead};

use super::{Complete, Direct, TYPES, cancel::End, finish::Arrived, request};
use crate::{DirectError, Hold, Record, Standing};

impl Direct {
    /// Looks whether the object of an upload is there, makes sure of it, and completes it: once,
    /// whoever asks first. `request` is that of a client that says so; `None` for notifications and
    /// the sweeper.
    ///
    /// # Errors
    /// It isn't there yet; it is too large or of another length than was said (then it is gone); a hook
    /// refuses (then it is gone) or can't be asked; S3 fails.
    ///
    /// # Cancel safety
    /// It goes on if dropped.
    pub async fn check(
        &self,
        record: &Record,
        request: Option<&mut Parts>,
    ) -> Result<Complete, DirectError> {
        let audience = self.audience()?;
        let info = request.map(|request| request::info(&audience, request));
        let (this, id) = (self.clone(), record.id().clone());
        let checked = tokio::spawn(async move { this.check_of(&id, info).await });
        checked.await.map_err(DirectError::broken_off)?
    }

    async fn check_of(
        &self,
        id: &UploadId,
        info: Option<Arc<RequestInfo>>,
    ) -> Result<Complete, DirectError> {
        let (hold, record) = self.hold(id).await?;
        let done = match record.standing {
            Standing::Open => match self.arrived(&hold, &record, info.as_ref()).await {
                Ok(arrived) => self.finish(&hold, record, arrived, info).await,
                Err(error) => Err(error),
            },
            _ => self.go_on(&hold, record, info).await,
        };
        hold.release().await;
        done
    }

    /// What has arrived of an open one, if it is right.
    pub(super) async fn arrived(
        &self,
        hold: &Hold,
        record: &Record,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Arrived, DirectError> {
        // While there is a multipart upload, what is at the key isn't made of it.
        if let Some(multipart) = &record.multipart {
            let client = &self.settings().client;
            match client.list_parts(&record.place, multipart, 0).await {
                Ok(_) => return Err(DirectError::NotYet),
                Err(error) if *error.kind() == ErrorKind::NoSuchUpload => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.measured(hold, record, info).await
    }

    /// The object, if it is what was asked for. If it isn't, the upload is gone.
    pub(super) async fn measured(
        &self,
        hold: &Hold,
        record: &Record,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<Arrived, DirectError> {
        let head = match self.settings().client.head_object(&record.place).await {
            Ok(head) if self.is_from_client(record, &head) => head,
            Ok(_) => return Err(DirectError::NotYet),
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => {
                if record.standing != Standing::Finishing {
                    return Err(DirectError::NotYet);
                }
                let end = End::Failed("it is gone from S3".into());
                self.end(hold, record.clone(), end, info).await?;
                return Err(DirectError::gone());
            }
            Err(error) => return Err(error.into()),
        };
        let stored = head.size;
        if let Some(most) = self.most(record).filter(|most| stored > *most) {
            let end = End::too_large(stored, most);
            self.end(hold, record.clone(), end, info).await?;
            return Err(DirectError::TooLarge { stored, most });
        }
        let wrong = match record.upload.length {
            Some(length) if stored < length => {
                Some(format!("it has {stored} bytes instead of {length}"))
            }
            _ => wrong_type(record, &head),
        };
        match wrong {
            None => Ok(Arrived::There(head)),
            Some(why) => Err(self.removed(hold, record, why, info).await?),
        }
    }

    /// Ends one whose object isn't right, and says so.
    pub(super) async fn removed(
        &self,
        hold: &Hold,
        record: &Record,
        why: String,
        info: Option<&Arc<RequestInfo>>,
    ) -> Result<DirectError, DirectError> {
        let message = format!("the file is removed: {why}");
        self.end(hold, record.clone(), End::Failed(why), info)
            .await?;
        Ok(DirectError::Conflict {
            gone: true,
            message,
        })
    }
}

/// Why the type that an object was sent as isn't welcome, if it wasn't signed and isn't.
pub(super) fn wrong_type(record: &Record, head: &ObjectHead) -> Option<String> {
    let welcome = record.upload.storage.get(TYPES)?;
    let sent = head.content_type.as_deref().unwrap_or_default();
    let is_welcome = welcome.split(',').any(|one| is_of_type(sent, one));
    (!is_welcome).then(|| format!("the type {sent:?} isn't accepted; welcome: {welcome}"))
}
