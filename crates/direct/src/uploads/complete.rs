//! Completing a multipart upload: of which parts, and whether they are right.

use std::{collections::HashMap, sync::Arc};

use http::request::Parts;
use landfall::{
    hook::{Intent, RequestInfo},
    upload::UploadId,
};
use landfall_s3::client::{ErrorKind, Part};

use super::{
    Complete, Direct,
    cancel::End,
    finish::{Arrived, Whole},
    request,
    sign::{MOST_PARTS, multipart},
};
use crate::{DirectError, Hold, Record, Standing, Way};

impl Direct {
    /// Completes a multipart upload of these parts (number and entity tag), after a look at what S3
    /// has; asked again, says the same again.
    ///
    /// # Errors
    /// The parts aren't right; there is too much of them (then it is gone); a hook refuses (then it is
    /// gone) or can't be asked; S3 fails.
    ///
    /// # Cancel safety
    /// It goes on if dropped.
    pub async fn complete(
        &self,
        record: &Record,
        parts: &[(u32, String)],
        request: &mut Parts,
    ) -> Result<Complete, DirectError> {
        let audience = self.audience()?;
        let info = request::info(&audience, request);
        if !matches!(record.way, Way::Multipart | Way::SignedMultipart) {
            return Err(DirectError::Conflict {
                gone: false,
                message: "this file isn't sent in parts".into(),
            });
        }
        in_order(parts)?;
        let id = Some(record.id());
        audience.admit(&info, Intent::Write, id).await?;
        let (this, id, parts) = (self.clone(), record.id().clone(), parts.to_vec());
        let completed = tokio::spawn(async move { this.complete_of(&id, &parts, info).await });
        completed.await.map_err(DirectError::broken_off)?
    }

    async fn complete_of(
        &self,
        id: &UploadId,
        named: &[(u32, String)],
        info: Arc<RequestInfo>,
    ) -> Result<Complete, DirectError> {
        let (hold, record) = self.hold(id).await?;
        let done = match record.standing {
            Standing::Open => match self.whole(&hold, &record, named, &info).await {
                Ok(arrived) => self.finish(&hold, record, arrived, Some(info)).await,
                Err(error) => Err(error),
            },
            _ => self.go_on(&hold, record, Some(info)).await,
        };
        hold.release().await;
        done
    }

    /// What the named parts give, as S3 has them. If that is too much, the upload is gone.
    async fn whole(
        &self,
        hold: &Hold,
        record: &Record,
        named: &[(u32, String)],
        info: &Arc<RequestInfo>,
    ) -> Result<Arrived, DirectError> {
        let listed = match self.list(record, multipart(record)?).await {
            Ok(listed) => listed,
            Err(DirectError::S3(error)) if *error.kind() == ErrorKind::NoSuchUpload => {
                // Its client may have completed it itself.
                return match self.measured(hold, record, Some(info)).await {
                    Err(DirectError::NotYet) => {
                        let end = End::Failed("its multipart upload is gone from S3".into());
                        self.end(hold, record.clone(), end, Some(info)).await?;
                        Err(error.into())
                    }
                    arrived => arrived,
                };
            }
            Err(error) => return Err(error),
        };
        let whole = matched(named, &listed)?;
        if let Some(most) = self.most(record).filter(|most| whole.size > *most) {
            let stored = whole.size;
            let end = End::too_large(stored, most);
            self.end(hold, record.clone(), end, Some(info)).await?;
            return Err(DirectError::TooLarge { stored, most });
        }
        match record.upload.length {
            Some(length) if whole.size < length => Err(DirectError::Parts(format!(
                "the parts have {} bytes together, and the file has {length}; S3 has the parts {}",
                whole.size,
                numbers(listed.iter().map(|part| part.number))
            ))),
            _ => Ok(Arrived::InParts(whole)),
        }
    }

    /// The most bytes that an upload may have, and that S3 keeps.
    pub(super) fn most(&self, record: &Record) -> Option<u64> {
        let most = self.settings().objects.max_object;
        Some(record.most().map_or(most, |bound| bound.min(most)))
    }

    /// Makes sure that a client that completes its upload itself hasn't sent too much.
    pub(super) async fn within_bounds(&self, record: &Record) -> Result<(), DirectError> {
        let listed = self.list(record, multipart(record)?).await?;
        let stored = listed.iter().map(|part| part.size).sum();
        match self.most(record) {
            Some(most) if stored > most => {
                self.fail(record, End::too_large(stored, most)).await?;
                Err(DirectError::TooLarge { stored, most })
            }
            _ => Ok(()),
        }
    }
}

/// That numbers of parts are from 1 to 10,000, and each is larger than the one before.
fn in_order(parts: &[(u32, String)]) -> Result<(), DirectError> {
    let wrong = |why: String| Err(DirectError::Parts(why));
    if parts.is_empty() {
        return wrong("no parts are named".into());
    }
    let mut last = 0;
    for (number, _) in parts {
        if !(1..=MOST_PARTS).contains(number) {
            return wrong(format!(
                "the part number {number} isn't from 1 to {MOST_PARTS}"
            ));
        }
        if *number <= last {
            return wrong(format!(
                "the part {number} stands behind {last}: parts are named once, in order"
            ));
        }
        last = *number;
    }
    Ok(())
}

/// Compares named parts with those that S3 has.
fn matched(named: &[(u32, String)], listed: &[Part]) -> Result<Whole, DirectError> {
    let by_number: HashMap<_, _> = listed.iter().map(|part| (part.number, part)).collect();
    let mut whole = Whole {
        size: 0,
        is_all: named.len() == by_number.len(),
        parts: Vec::with_capacity(named.len()),
    };
    for (number, etag) in named {
        let Some(part) = by_number.get(number) else {
            let why = format!("S3 has no part {number}: send it, and complete the upload then");
            return Err(DirectError::Parts(why));
        };
        if part.etag.trim_matches('"') != etag.trim().trim_matches('"') {
            let why =
                format!("the part {number} has another entity tag than the one that is named");
            return Err(DirectError::Parts(why));
        }
        whole.size = whole.size.saturating_add(part.size);
        whole.parts.push((*number, part.etag.clone()));
    }
    Ok(whole)
}

/// Numbers in ranges: `1-3,5`.
pub(super) fn numbers(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let ranges: Vec<_> = ranges
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    ranges.join(",")
}

/// Reads what [`numbers`] wrote.
fn has_number(ranges: &str, number: u32) -> bool {
    ranges.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&number),
            _ => false,
        }
    })
}

/// What was to be made of an upload when its process died: of these parts, or of all.
pub(super) fn intended(ranges: Option<&str>, listed: &[Part]) -> Whole {
    let is_meant = |part: &&Part| ranges.is_none_or(|ranges| has_number(ranges, part.number));
    let meant: Vec<_> = listed.iter().filter(is_meant).collect();
    Whole {
        size: meant.iter().map(|part| part.size).sum(),
        is_all: meant.len() == listed.len(),
        parts: meant
            .iter()
            .map(|part| (part.number, part.etag.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(parts: &[(u32, u64)]) -> Vec<Part> {
        let part = |(number, size): &(u32, u64)| Part {
            number: *number,
            size: *size,
            etag: format!("\"e{number}\""),
            modified: None,
        };
        parts.iter().map(part).collect()
    }

    fn named(parts: &[(u32, &str)]) -> Vec<(u32, String)> {
        parts.iter().map(|(n, etag)| (*n, (*etag).into())).collect()
    }

    #[test]
    fn order() {
        in_order(&named(&[(1, "a"), (3, "b"), (10_000, "c")])).unwrap();
        for bad in [
            &[][..],
            &[(0, "a")],
            &[(10_001, "a")],
            &[(2, "a"), (1, "b")],
            &[(1, "a"), (1, "a")],
        ] {
            let error = in_order(&named(bad)).unwrap_err();
            assert!(matches!(error, DirectError::Parts(_)), "{bad:?}");
        }
    }

    #[test]
    fn what_is_named_is_there() {
        let there = listed(&[(1, 5), (2, 7), (4, 1)]);
        let whole = matched(&named(&[(1, "e1"), (4, "\"e4\"")]), &there).unwrap();
        assert_eq!((whole.size, whole.is_all), (6, false));
        assert_eq!(whole.parts, named(&[(1, "\"e1\""), (4, "\"e4\"")]));
        for bad in [(3, "e3"), (2, "e1")] {
            matched(&named(&[(1, "e1"), bad]), &there).unwrap_err();
        }
    }

    #[test]
    fn ranges() {
        let all = |list: &[u32]| numbers(list.iter().copied());
        assert_eq!(all(&[1, 2, 3, 5, 7, 8]), "1-3,5,7-8");
        assert_eq!(all(&[]), "");
        let there = listed(&[(1, 5), (2, 7), (4, 1)]);
        assert_eq!(intended(Some("1,3-4"), &there).size, 6);
        assert_eq!(intended(None, &there).size, 13);
        assert!(!has_number("", 1) && !has_number("x-y", 1));
    }
}
