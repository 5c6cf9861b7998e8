//! An upload whose source is open, and the record of an earlier run of it.

use std::sync::Arc;

use landfall_protocol::Metadata;
use url::Url;

use super::{ChunkSender, UploadSettings};
use crate::{
    Error, Event,
    fingerprint::{Record, Recorder, StoredRecord},
    http::Session,
    shared::Shared,
    source::Content,
};

/// An opened upload.
pub(crate) struct OpenedUpload {
    pub(crate) client: Arc<Shared>,
    pub(crate) settings: Arc<UploadSettings>,
    pub(crate) endpoint: Url,
    pub(crate) content: Content,
    pub(crate) sender: ChunkSender,
}

/// Opens the record of an upload of a file, and returns it if the file is still the same.
pub(crate) async fn open_record(
    client: &Shared,
    settings: &UploadSettings,
    endpoint: &Url,
    content: &Content,
    protocol: &str,
    session: &Session,
) -> Result<(Option<Arc<Recorder>>, Option<Record>), Error> {
    let (Some(store), Content::File(file), None) = (&client.fingerprints, content, &settings.url)
    else {
        return Ok((None, None));
    };
    let pairs = settings.metadata.iter();
    let metadata = Metadata::from_pairs(pairs.map(|(key, value)| (key.as_str(), value.clone())));
    let token = settings.token.as_deref().unwrap_or_default();
    let identity = [metadata.header().as_bytes(), token.as_bytes()];
    let resume = !settings.restart;
    let (recorder, found) =
        Recorder::open(store.clone(), file, endpoint, &identity, resume).await?;
    let record = match found {
        StoredRecord::Record(record) if record.protocol == protocol => Some(*record),
        StoredRecord::Changed => {
            session.meter.emit(|| Event::StartedAnew {
                reason: "the file has changed since the earlier upload".into(),
            });
            None
        }
        StoredRecord::Nothing | StoredRecord::Record(_) => None,
    };
    Ok((Some(Arc::new(recorder)), record))
}
