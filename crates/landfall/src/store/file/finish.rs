//! Marks of finished uploads. A description that this process has just written or read stays open until then.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Inner,
    cache::CachedUpload,
    failure::failed,
    files::info_path,
    sys::{self, FileVersion},
};
use crate::{
    store::{RecentlyUsed, Result, info},
    upload::{Completion, UploadId},
};

/// A request that takes longer opens its description again.
const MAX_OPEN: usize = 64;
/// The age at which a description that is open is read again, since only Landfall respects leases.
const MAX_AGE: Duration = Duration::from_millis(100);

/// Descriptions that end with a mark, for writing.
pub(super) fn open_infos() -> RecentlyUsed<OpenInfo> {
    let max = match sys::open_files_are_scarce() {
        true => 0,
        false => MAX_OPEN,
    };
    RecentlyUsed::new(max, Duration::ZERO)
}

#[derive(Debug)]
pub(super) struct OpenInfo {
    file: OwnedFd,
    len: u64,
    /// When it was known to end with a mark.
    known: Option<Instant>,
}

impl OpenInfo {
    fn mark_at(&self) -> u64 {
        self.len.saturating_sub(info::FINISH_MARK.len() as u64)
    }

    fn ends_with_mark(&self) -> io::Result<bool> {
        if self.known.is_some_and(|known| known.elapsed() < MAX_AGE) {
            return Ok(true);
        }
        let mut end = [0; info::FINISH_MARK.len()];
        let read = sys::read_at(self.file.as_fd(), &mut end, self.mark_at())?;
        Ok(read == end.len() && end == *info::FINISH_MARK)
    }

    /// Returns the version of the marked file if that before was synced: it counts as synced, too.
    fn mark(&self, synced: Option<FileVersion>) -> io::Result<Option<FileVersion>> {
        let version = || sys::stat_open(self.file.as_fd());
        let is_synced = synced.is_some() && synced == Some(version()?);
        let at = self.mark_at() + info::FINISH_MARK_OFFSET;
        sys::write_from(self.file.as_fd(), b"1", at)?;
        is_synced.then(version).transpose()
    }
}

impl Inner {
    /// Keeps the description open if it ends with a mark.
    pub(super) fn keep_info(&self, entry: &CachedUpload, file: OwnedFd, json: &[u8]) {
        if json.ends_with(info::FINISH_MARK) {
            let (len, known) = (json.len() as u64, Some(Instant::now()));
            let key = self.open_infos.insert(OpenInfo { file, len, known });
            entry.info.lock().open = key;
        }
    }

    /// To be called before the description is replaced or removed, and when another process may have done so.
    pub(super) fn take_info(&self, entry: &CachedUpload) -> Option<OpenInfo> {
        let key = std::mem::take(&mut entry.info.lock().open);
        // Most have none.
        (key != 0).then(|| self.open_infos.take(key))?
    }

    /// Records that an upload is finished whose completion nothing tracks: one byte is overwritten, without a
    /// sync. If it is lost, the upload is still complete as long as its file is unchanged. Without durability, a power
    /// loss may keep it and lose bytes: see [`Inner::check_state`].
    pub(super) fn mark_finished(&self, id: &UploadId, entry: &CachedUpload) -> Result<()> {
        let fail = |error| failed(id, "marking the description as finished", error);
        let open = || {
            let (file, version) = self.open_versioned(&info_path(id), sys::open_update)?;
            let (len, known) = (version.size, None);
            Ok(OpenInfo { file, len, known })
        };
        let open = self.take_info(entry).map_or_else(open, Ok).map_err(fail)?;
        if open.ends_with_mark().map_err(fail)? {
            let synced = {
                let mut known = entry.info.lock();
                known.record = None;
                known.synced.info
            };
            if let Some(marked) = open.mark(synced).map_err(fail)? {
                entry.info.lock().synced.info = Some(marked);
            }
            return Ok(());
        }
        // Written by tusd, or by an earlier version.
        self.change(id, entry, |record| {
            if record.info.upload.completion == Completion::NotTracked {
                Arc::make_mut(&mut record.info.upload).completion = Completion::Done(None);
            }
            Ok(())
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        lease::Fence,
        store::{Finish as _, Store as _, file::FileStore},
        upload::Upload,
    };

    fn five() -> Upload {
        Upload::new(UploadId::random(), Some(5))
    }

    fn is_open(store: &FileStore, id: &UploadId) -> bool {
        store.0.cache.get_or_insert(id).info.lock().open != 0
    }

    async fn finish(store: &FileStore, upload: &Upload) {
        store.finish(upload, Fence(1)).await.unwrap();
        assert!(!is_open(store, &upload.id));
        let completion = store
            .load(&upload.id)
            .await
            .unwrap()
            .upload
            .completion
            .clone();
        assert_eq!(completion, Completion::Done(None));
    }

    #[tokio::test]
    async fn description_is_open_only_until_its_request_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path()).unwrap();
        let (upload, mut append) = store.create_append(five(), Fence(1)).await.unwrap();
        assert!(is_open(&store, &upload.id));
        append.write(&mut vec!["hello".into()]).await.unwrap();
        drop(append);
        finish(&store, &upload).await;

        let upload = store.create(five()).await.unwrap();
        assert!(!is_open(&store, &upload.id));
        for (chunk, is_open_after) in [("hel", false), ("lo", true)] {
            let mut append = store.resume(&upload.id, Fence(1)).await.unwrap().1;
            assert!(is_open(&store, &upload.id));
            append.write(&mut vec![Bytes::from(chunk)]).await.unwrap();
            drop(append);
            assert_eq!(is_open(&store, &upload.id), is_open_after);
        }
        finish(&store, &upload).await;

        let (upload, append) = store.create_append(five(), Fence(1)).await.unwrap();
        drop(append);
        assert!(!is_open(&store, &upload.id));
    }

    #[tokio::test]
    async fn description_that_another_program_rewrote_in_place_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path()).unwrap();
        let (upload, mut append) = store.create_append(five(), Fence(1)).await.unwrap();
        let path = dir.path().join(&*info_path(&upload.id));
        let json = std::fs::read_to_string(&path).unwrap();
        let rewritten = json.replace("\"MetaData\":{}", "\"MetaData\":{\"a\":\"b\"}");
        assert_ne!(json, rewritten);
        std::fs::write(&path, rewritten).unwrap();
        append.write(&mut vec!["hello".into()]).await.unwrap();
        drop(append);
        tokio::time::sleep(MAX_AGE).await;
        finish(&store, &upload).await;
        let metadata = store
            .load(&upload.id)
            .await
            .unwrap()
            .upload
            .metadata
            .clone();
        assert_eq!(metadata.get("a"), Some(&b"b"[..]));
    }
}
