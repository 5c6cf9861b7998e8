//! Deletes many objects, a hundred in one request where the service has batches. It decides not which.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, header::CONTENT_TYPE};
use landfall_objects::{ErrorKind, ObjectRef, Result, Service as _, header_text};

use crate::{address::Address, client::Inner, request::ApiRequest};

const BATCH: &str = "batch";

/// The most that the service takes in one request.
const BATCH_SIZE: usize = 100;

const MAX_BATCHES: usize = 8;
const MAX_SINGLE: usize = 16;

/// The key of an object to delete, and its generation; `None`: any.
pub(crate) type Deletion = (String, Option<u64>);

impl Inner {
    /// Deletes objects in any order. Missing ones are no errors.
    ///
    /// # Errors
    /// The first one. All deletions are attempted.
    pub(crate) async fn delete_all(&self, bucket: &str, keys: &[Deletion]) -> Result<()> {
        let batches = keys.chunks(BATCH_SIZE);
        let batches = batches.map(|keys| self.delete_batch(bucket, keys));
        run_all(batches.collect(), MAX_BATCHES).await
    }

    /// Deletes objects in this order, as far as the service can be made to: a hundred at once.
    pub(crate) async fn delete_in_order(&self, bucket: &str, keys: &[Deletion]) -> Result<()> {
        for keys in keys.chunks(BATCH_SIZE) {
            self.delete_batch(bucket, keys).await?;
        }
        Ok(())
    }

    async fn delete_batch(&self, bucket: &str, keys: &[Deletion]) -> Result<()> {
        let mut left: Vec<_> = keys.iter().collect();
        if keys.len() > 1 && self.has_batches.load(Ordering::Relaxed) {
            match self.send_batch(bucket, keys).await {
                Ok(refused) => left = refused,
                Err(error)
                    if [ErrorKind::NotImplemented, ErrorKind::NoSuchKey].contains(error.kind()) =>
                {
                    self.has_batches.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        let left = left.into_iter();
        let deleted = left.map(async |(key, generation)| {
            self.delete_if(&ObjectRef::new(bucket, key), *generation)
                .await
        });
        run_all(deleted.collect(), MAX_SINGLE).await
    }

    /// Deletes an object, unless it has another generation by now.
    pub(crate) async fn delete_if(
        &self,
        object: &ObjectRef,
        generation: Option<u64>,
    ) -> Result<()> {
        match self.delete(object, generation).await {
            // It was replaced.
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => Ok(()),
            deleted => deleted,
        }
    }

    /// Sends one batch; returns the keys whose deletion has to be repeated singly.
    async fn send_batch<'k>(
        &self,
        bucket: &str,
        keys: &'k [Deletion],
    ) -> Result<Vec<&'k Deletion>> {
        let boundary = format!("{:032x}", rand::random::<u128>());
        let mut body = String::new();
        for (index, (key, generation)) in keys.iter().enumerate() {
            let mut path = Address::path(bucket, key);
            if let Some(generation) = generation {
                path.push_str(&format!("?ifGenerationMatch={generation}"));
            }
            body.push_str(&format!(
                "--{boundary}\r\ncontent-type: application/http\r\ncontent-id: <{index}>\r\n\r\n\
                 DELETE {path} HTTP/1.1\r\n\r\n\r\n"
            ));
        }
        body.push_str(&format!("--{boundary}--\r\n"));
        let content_type = format!("multipart/mixed; boundary={boundary}");
        let request = ApiRequest::new(BATCH, Method::POST, self.address.batch(), bucket)
            .text(&content_type, body)?;
        let response = self.send(&request).await?;
        let statuses = statuses(&response.head.headers, &response.body, keys.len());
        let is_left = |status| !matches!(status, Some(200..=299 | 404 | 412));
        let all = keys.iter().zip(statuses);
        let left = all.filter_map(|(key, status)| is_left(status).then_some(key));
        Ok(left.collect())
    }
}

/// Makes all calls, at most `limit` at once; returns the first error.
async fn run_all(calls: Vec<impl Future<Output = Result<()>>>, limit: usize) -> Result<()> {
    let results = stream::iter(calls).buffer_unordered(limit);
    results.collect::<Vec<_>>().await.into_iter().collect()
}

/// Reads the status of each request of a batch, in their order; `None` for one that is not there.
fn statuses(headers: &HeaderMap, body: &[u8], count: usize) -> Vec<Option<u16>> {
    let mut statuses = vec![None; count];
    let content_type = header_text(headers, CONTENT_TYPE);
    let boundary = content_type.and_then(|text| {
        let (_, boundary) = text.split_once("boundary=")?;
        let boundary = boundary.split(';').next()?.trim().trim_matches('"');
        (!boundary.is_empty()).then(|| format!("--{boundary}"))
    });
    let Some(boundary) = boundary else {
        return statuses;
    };
    let body = String::from_utf8_lossy(body);
    for part in body.split(&*boundary).skip(1) {
        let mut lines = part.lines().map(str::trim);
        let id = lines.by_ref().take_while(|line| !line.starts_with("HTTP/"));
        let id = id.fold(None, |found, line| found.or(content_id(line)));
        let status = part.lines().find_map(|line| {
            let status = line.trim().strip_prefix("HTTP/")?.split(' ').nth(1)?;
            status.parse().ok()
        });
        if let Some(slot) = id.and_then(|id: usize| statuses.get_mut(id)) {
            *slot = status;
        }
    }
    statuses
}

/// Reads the number that this client has given to a request: the service answers `<response-NUMBER>`.
fn content_id(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    if !name.eq_ignore_ascii_case("content-id") {
        return None;
    }
    let id = value.trim().trim_matches(['<', '>']);
    id.strip_prefix("response-").unwrap_or(id).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_of_a_batch_are_matched_by_id() {
        let mut headers = HeaderMap::new();
        let value = "multipart/mixed; boundary=\"batch_x\"; charset=utf-8";
        headers.insert(CONTENT_TYPE, value.parse().expect("a value"));
        let part = |id: &str, status: &str| {
            format!(
                "--batch_x\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\nHTTP/1.1 {status}\r\nA: b\r\n\r\n\r\n"
            )
        };
        let body = [
            part("<response-2>", "404 Not Found"),
            part("<response-0>", "204 No Content"),
            part("<response-1>", "503 Backend Error"),
            part("<response-9>", "204 No Content"),
            "--batch_x--\r\n".to_owned(),
        ]
        .concat();
        let read = statuses(&headers, body.as_bytes(), 4);
        assert_eq!(read, [Some(204), Some(503), Some(404), None]);
        assert_eq!(statuses(&HeaderMap::new(), body.as_bytes(), 1), [None]);
        assert_eq!(statuses(&headers, b"\xff\r\n", 1), [None]);
    }
}
