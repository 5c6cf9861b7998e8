//! Sending parts.

use std::{pin::pin, sync::atomic::Ordering};

use landfall::store::{Result, StoreError};
use tokio::time::timeout;

use super::{
    Inner,
    failure::{damaged, failed},
    layout::MULTIPART,
    memory::{Memory, PATIENCE},
    plan::Segment,
    session::State,
};
use crate::client::{ErrorKind, Payload};

/// How often an upload waits for memory, while no other one gets any, before it is refused.
const PATIENT_ROUNDS: u32 = 48;
/// The most parts that are sent before a writer makes sure that it is still the writer.
const MAX_UNVERIFIED_PARTS: u32 = 16;

impl Inner {
    /// The size of the part that is being gathered. The plan is made to say so, but isn't written
    /// down yet.
    pub(super) fn part_size(&self, state: &mut State) -> Result<u64> {
        if std::mem::take(&mut state.at.is_in_doubt) {
            self.begin_anew(state, self.parts_in_doubt());
            state.plan_unsaid = true;
        }
        let (next, in_flight, rest) = (state.next_part(), state.in_flight(), state.rest());
        let at = &mut state.at;
        let known = at.plan.size();
        let number = if known.is_none() {
            next.max(at.counted.highest + 1)
        } else {
            next
        };
        // Behind parts of another program: like them, if they are all alike.
        let current = known.or_else(|| (rest > self.sizes.preferred).then_some(rest));
        let length = at.info.upload.length;
        let Some(size) = self.sizes.next(number, state.boundary, length, current) else {
            let left = u64::from((self.sizes.parts + 1).saturating_sub(number));
            let limit = state.boundary + left * self.sizes.largest;
            return Err(StoreError::TooLarge { limit });
        };
        if known != Some(size) {
            at.plan.push(Segment {
                number,
                offset: state.boundary,
                size,
            });
            at.counted.next = number - in_flight;
            state.plan_unsaid = true;
        }
        Ok(size)
    }

    /// Takes memory for more bytes. If there is none, uploads that wait for their clients give up
    /// theirs; then one upload after another fills a part beyond the budget.
    pub(super) async fn memory(&self, state: &mut State, bytes: usize) -> Result<Memory> {
        if let Some(memory) = self.budget.try_take(bytes) {
            return Ok(memory);
        }
        if state.gather.is_beyond_budget() {
            return Ok(Memory::default());
        }
        // Its places in both queues are kept all the while.
        let mut share = pin!(self.budget.take(bytes));
        let mut turn = pin!(self.spare());
        let mut turns = self.turns.load(Ordering::Relaxed);
        let mut round = 0;
        while round < PATIENT_ROUNDS {
            self.reclaim(bytes, &state.at.info.upload.id).await;
            let either = async {
                tokio::select! {
                    biased;
                    memory = &mut share => memory,
                    memory = &mut turn, if round > 0 => memory,
                }
            };
            if let Ok(memory) = timeout(PATIENCE, either).await {
                return Ok(memory);
            }
            self.collect(state)?;
            // As long as others get on, its turn comes.
            let others = self.turns.load(Ordering::Relaxed);
            round = if others == turns { round + 1 } else { 1 };
            turns = others;
        }
        Err(StoreError::Unavailable {
            retry_after: None,
            source: "the memory for bytes on their way to S3 is used up".into(),
        })
    }

    /// Puts the bytes that were gathered into `.part`, and gives their memory back.
    pub(super) async fn put_away(&self, state: &mut State) -> Result<()> {
        self.commit(state).await?;
        state.skipped += state.gather.len();
        state.gather = self.gather();
        Ok(())
    }

    /// Reads what is in `.part` only, so that all bytes that no part has taken are in memory.
    pub(super) async fn fetch_rest(&self, state: &mut State) -> Result<()> {
        if state.skipped == 0 {
            return Ok(());
        }
        let id = state.at.id().clone();
        let Some(rest) = &state.at.rest else {
            return Err(damaged(&id, "the rest that was kept in S3 is missing"));
        };
        let len = usize::try_from(state.skipped).unwrap_or(usize::MAX);
        let memory = match self.budget.try_take(len) {
            Some(memory) => memory,
            // Waiting for its own turn would never end.
            None if state.gather.is_beyond_budget() => Memory::default(),
            None => match timeout(PATIENCE, self.budget.take(len)).await {
                Ok(memory) => memory,
                Err(_) => self.spare().await,
            },
        };
        let place = self.layout.part(&state.at.object);
        let doing = "reading the rest";
        let object = match self.client.get_object(&place, Some(0..state.skipped)).await {
            Ok(object) => object,
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => {
                return Err(damaged(&id, "the rest that was kept in S3 is missing"));
            }
            Err(error) => return Err(failed(&id, doing, error)),
        };
        if object.head.etag != rest.etag {
            return Err(StoreError::LeaseLost(id));
        }
        let mut gather = self.gather();
        let read = gather.push_object(object, len, memory).await;
        if read.map_err(|error| failed(&id, doing, error))? != len {
            return Err(damaged(
                &id,
                "the rest that was kept in S3 has the wrong length",
            ));
        }
        std::mem::swap(&mut state.gather, &mut gather);
        state.gather.append(gather);
        state.skipped = 0;
        Ok(())
    }

    /// Memory beyond the budget, for one upload at a time.
    pub(super) async fn spare(&self) -> Memory {
        let permit = self.spare.clone().acquire_owned().await.ok();
        self.turns.fetch_add(1, Ordering::Relaxed);
        Memory::spare(permit)
    }

    /// The multipart upload, begun if none has been needed so far.
    async fn multipart(&self, state: &mut State) -> Result<String> {
        if let Some(multipart) = &state.at.multipart {
            return Ok(multipart.clone());
        }
        let at = &mut state.at;
        let multipart = self.begin(&at.info.upload, &at.place).await?;
        let storage = &mut at.info.upload.storage;
        storage.insert(MULTIPART.into(), multipart.clone());
        at.multipart = Some(multipart.clone());
        state.plan_unsaid = true;
        Ok(multipart)
    }

    /// How many numbers above the highest part in S3 another writer may have used, or may still use
    /// before it makes sure that it is the writer.
    pub(super) fn parts_in_doubt(&self) -> u32 {
        let in_flight = u32::try_from(self.options.concurrent_parts).unwrap_or(u32::MAX);
        let unverified = if self.options.shared {
            MAX_UNVERIFIED_PARTS
        } else {
            0
        };
        in_flight.saturating_add(unverified + 1)
    }

    /// Sends what was gathered as a part, without waiting for its arrival, only for its turn. Where the
    /// part is, who sends it, and whether its bytes count yet, is written down before.
    pub(super) async fn launch(&self, state: &mut State) -> Result<()> {
        self.fetch_rest(state).await?;
        self.part_size(state)?;
        if state
            .at
            .rest
            .as_ref()
            .is_some_and(|rest| !rest.has_start && rest.len > 0)
        {
            // Or its bytes would count twice as soon as a part holds them.
            let payload = state.gather.payload();
            let rest = self.put_rest(&state.at, state.boundary, payload, false);
            state.at.rest = Some(rest.await?);
        }
        let multipart = self.multipart(state).await?;
        if !state.is_signed {
            self.sign(&mut state.at.info, state.fence);
            state.plan_unsaid = true;
        }
        if let Some(floor) = state.held
            && state.at.info.unverified_from.is_none()
        {
            self.put_on_probation(state, floor).await?;
        }
        if state.plan_unsaid {
            self.save_plan(state).await?;
            state.is_signed = true;
        } else if state.unverified_parts >= MAX_UNVERIFIED_PARTS {
            self.verify(state).await?;
        }
        state.unverified_parts += 1;
        let slot = self.slots.clone().acquire_owned().await;
        let (payload, memory) = state.gather.take();
        let number = state.next_part();
        let at = &mut state.at;
        at.counted.highest = at.counted.highest.max(number);
        state.boundary += payload.len();
        let (client, place) = (self.client.clone(), at.place.clone());
        state.flights.spawn(async move {
            let sent = client
                .upload_part(&place, &multipart, number, payload)
                .await;
            drop((slot, memory));
            (number, sent)
        });
        Ok(())
    }

    /// Takes in what has landed by now.
    ///
    /// # Errors
    /// That of a part that failed.
    pub(super) fn collect(&self, state: &mut State) -> Result<()> {
        while let Some(landing) = state.flights.try_join_next() {
            land(state, landing)?;
        }
        Ok(())
    }

    /// Waits until all parts have landed.
    ///
    /// # Errors
    /// That of a part that failed; what is known of the upload is then worth nothing.
    pub(super) async fn settle(&self, state: &mut State) -> Result<()> {
        while let Some(landing) = state.flights.join_next().await {
            land(state, landing)?;
        }
        let counted = &mut state.at.counted;
        if !state.landed.is_empty() {
            state.landed.sort_by_key(|(number, _)| *number);
            counted.next += u32::try_from(state.landed.len()).unwrap_or(u32::MAX);
            counted.parts.append(&mut state.landed);
            state.at.modified = std::time::SystemTime::now();
        }
        counted.offset = state.boundary;
        Ok(())
    }

    /// Sends the bytes that no part has taken as the last part.
    pub(super) async fn send_last(&self, state: &mut State) -> Result<()> {
        self.fetch_rest(state).await?;
        let at = &state.at;
        let alone = at.multipart.is_none() && at.counted.parts.is_empty();
        if alone && state.flights.is_empty() && state.boundary == 0 {
            let (payload, memory) = state.gather.take();
            state.boundary = payload.len();
            let put = self.put_whole(state, payload).await;
            drop(memory);
            return put;
        }
        if state.gather.len() > 0 {
            self.launch(state).await?;
        }
        self.settle(state).await
    }

    /// Writes the whole object at once.
    pub(super) async fn put_whole(&self, state: &mut State, payload: Payload) -> Result<()> {
        let at = &mut state.at;
        let upload = &at.info.upload;
        let headers = self.layout.owned_headers(upload);
        let condition = crate::client::Condition::None;
        let put = self
            .client
            .put_object(&at.place, payload, &headers, condition);
        let etag = put
            .await
            .map_err(|error| failed(&upload.id, "writing the object", error))?;
        at.object_etag = Some(etag);
        at.counted.offset = state.boundary;
        at.complete = true;
        at.modified = std::time::SystemTime::now();
        Ok(())
    }
}

fn land(
    state: &mut State,
    landing: Result<super::session::Landing, tokio::task::JoinError>,
) -> Result<()> {
    let id = state.at.id().clone();
    let landed = match landing {
        Ok((number, Ok(etag))) => Ok((number, etag)),
        Ok((_, Err(error))) => Err(failed(&id, "sending a part", error)),
        Err(error) => Err(StoreError::Other {
            action: format!("sending a part of upload {id}"),
            source: error.into(),
        }),
    };
    state.has_failed |= landed.is_err();
    state.landed.push(landed?);
    Ok(())
}
