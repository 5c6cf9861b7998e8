//! Makes one object of many, without moving bytes: in groups of 32, and those again. It knows no upload.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use landfall_objects::{ErrorKind, ObjectHeaders, ObjectRef, Result};
use serde_json::json;

use crate::{
    checksum::Checksum,
    client::Inner,
    names::PartTag,
    request::{ApiRequest, with_json},
    resource::{FIELDS, Resource, attributes},
};

pub(crate) const COMPOSE: &str = "objects.compose";

/// The most that the service takes as sources of one object.
const MAX_SOURCES: usize = 32;

const MAX_CONCURRENCY: usize = 8;

/// No byte is moved, but large objects take longer.
const MAX_WORK: u64 = 64 * 1024 * 1024;

/// An object to be made part of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) key: String,
    pub(crate) generation: u64,
    pub(crate) checksum: Checksum,
}

impl Source {
    pub(crate) fn new(key: String, tag: PartTag) -> Option<Self> {
        Some(Self {
            key,
            generation: tag.generation,
            checksum: tag.checksum()?,
        })
    }
}

/// Returns the checksum of the bytes of all sources.
pub(crate) fn whole(sources: &[Source]) -> Checksum {
    let checksums = sources.iter().map(|source| source.checksum);
    checksums.fold(Checksum::default(), Checksum::followed_by)
}

/// Splits sources into the groups that become temporary objects, and those that stay; `None` if one object can be
/// made of them.
fn groups(sources: &[Source]) -> Option<(std::slice::ChunksExact<'_, Source>, &[Source])> {
    let groups = sources.chunks_exact(MAX_SOURCES);
    let rest = groups.remainder();
    (sources.len() > MAX_SOURCES).then_some((groups, rest))
}

impl Inner {
    /// Makes temporary objects, whose names begin with `temporary`, until one object can be made of the sources.
    ///
    /// Returns the sources that are left, and the keys of all temporary objects.
    pub(crate) async fn reduce(
        &self,
        bucket: &str,
        temporary: &str,
        mut sources: Vec<Source>,
    ) -> Result<(Vec<Source>, Vec<String>)> {
        let mut made = Vec::new();
        let mut level = 0;
        while let Some((groups, rest)) = groups(&sources) {
            let composed = groups.enumerate().map(|(index, group)| {
                let object = ObjectRef::new(bucket, format!("{temporary}{level}-{index}"));
                async move { self.compose_temporary(object, group).await }
            });
            let composed: Vec<_> = composed.collect();
            let composed = stream::iter(composed).buffered(MAX_CONCURRENCY);
            let mut next: Vec<_> = composed.try_collect().await?;
            made.extend(next.iter().map(|source: &Source| source.key.clone()));
            next.extend_from_slice(rest);
            sources = next;
            level += 1;
        }
        Ok((sources, made))
    }

    async fn compose_temporary(&self, object: ObjectRef, sources: &[Source]) -> Result<Source> {
        let wanted = whole(sources);
        let headers = ObjectHeaders::default();
        let generation = match self.compose(&object, sources, &headers, 0).await {
            // An interrupted finish has left it.
            Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {
                match self.find(&object).await? {
                    Some(found) if found.checksum() == Some(wanted) => found.generation,
                    found => {
                        let over = found.map_or(0, |found| found.generation);
                        self.compose(&object, sources, &headers, over).await?
                    }
                }
            }
            composed => composed?,
        };
        Ok(Source {
            key: object.key,
            generation,
            checksum: wanted,
        })
    }

    /// Makes an object of 1 to 32 others; `over` is the generation that it must have, 0 for none.
    ///
    /// Returns its generation. If the bytes are others than those of the sources, it is deleted.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`], [`ErrorKind::NoSuchKey`] if a source does not exist any more in its
    /// generation, and others.
    pub(crate) async fn compose(
        &self,
        object: &ObjectRef,
        sources: &[Source],
        headers: &ObjectHeaders,
        over: u64,
    ) -> Result<u64> {
        let wanted = whole(sources);
        let named = sources.iter().map(|source| {
            let generation = source.generation.to_string();
            json!({"name": source.key, "generation": generation})
        });
        let body = json!({
            "kind": "storage#composeRequest",
            "sourceObjects": named.collect::<Vec<_>>(),
            "destination": attributes(headers),
        });
        let url = format!("{}/compose", self.address.object(object));
        let request = ApiRequest::new(COMPOSE, Method::POST, url, &object.bucket)
            .about(object)
            .query("fields", FIELDS)
            .query("ifGenerationMatch", &over.to_string())
            .works(wanted.size.min(MAX_WORK));
        let request = with_json(request, &body)?;
        let made: Resource = self.fetch(&request).await?;
        let made = match made.generation {
            // An emulator may send less than the request wants.
            0 => self.metadata(object).await?,
            _ => made,
        };
        if made.checksum() == Some(wanted) {
            return Ok(made.generation);
        }
        let deleted = self.delete(object, Some(made.generation)).await;
        let outcome = match deleted {
            Ok(()) => "it was deleted",
            Err(_) => "it cannot be deleted",
        };
        let why = format!(
            "the service has made an object of other bytes than those of its {} sources; {outcome}",
            sources.len()
        );
        Err(request.error(ErrorKind::Other).with_message(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(mut count: usize) -> Vec<usize> {
        let source = Source {
            key: String::new(),
            generation: 1,
            checksum: Checksum::default(),
        };
        let mut rounds = Vec::new();
        loop {
            let sources = vec![source.clone(); count];
            let Some((groups, rest)) = groups(&sources) else {
                return rounds;
            };
            rounds.push(groups.len());
            count = groups.len() + rest.len();
        }
    }

    #[test]
    fn few_rounds_make_few_sources() {
        assert!(rounds(1).is_empty());
        assert!(rounds(32).is_empty());
        assert_eq!(rounds(33), [1]);
        assert_eq!(rounds(128), [4]);
        assert_eq!(rounds(1_025), [32, 1]);
        assert_eq!(rounds(10_000), [312, 10]);
        assert_eq!(rounds(1_000_000), [31_250, 976, 31, 1]);
    }
}
