//! The calls to Redis: four scripts, each of them atomic there.

use std::{fmt, time::Duration};

use landfall::{
    lease::{Fence, remote::OwnedLease},
    upload::UploadId,
};
use redis::{Cmd, RedisResult, Script, aio::MultiplexedConnection};

use crate::settings::RedisSettings;

/// How long a fence is remembered after its lease. Later the count starts anew, from the clock.
const FENCE_OUTLIVES: Duration = Duration::from_secs(24 * 3600);
/// How long a lease is kept for the node that waits for it.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Identifies a lease among those that this node acquired: a later one has a greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) u64);

impl LeaseId {
    /// Returns the value of the lease's key in Redis.
    fn value(self, owner: &str) -> String {
        format!("{owner}:{}", self.0)
    }
}

/// What a request for a lease asks of the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Nothing,
    /// To yield to a request that appends at an offset, or in any case.
    Yield(Option<u64>),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Yield(None) => f.write_str("-"),
            Self::Yield(Some(offset)) => offset.fmt(f),
        }
    }
}

/// Parses the offset of [`Ask::Yield`].
pub(crate) fn parse_offset(text: &str) -> Option<Option<u64>> {
    match text {
        "-" => Some(None),
        offset => offset.parse().ok().map(Some),
    }
}

/// The outcome of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Renewed(Ask),
    /// Another node has the lease.
    Lost,
}

/// The scripts, with what is the same in every call.
#[derive(Debug)]
pub(crate) struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
    enter: Script,
    prefix: String,
    channel: String,
    owner: String,
    ttl: Millis,
    keep: Millis,
    want: Millis,
}

/// What taking a lease came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Granted(Fence),
    /// Somebody has it, for this long if it isn't renewed.
    Busy(Duration),
}

/// Where the calls of one connection go. The name of the primary is part of each key: after a restart
/// or a failover the server may know old leases and old fences, or none, and both count as none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) name: &'a str,
    /// How long leases of the primary before may still be held.
    pub(crate) unsettled: Duration,
}

/// Milliseconds, as an argument.
type Millis = u64;

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Scripts {
    pub(crate) fn new(settings: &RedisSettings, owner: &str) -> Self {
        Self {
            acquire: Script::new(include_str!("scripts/acquire.lua")),
            renew: Script::new(include_str!("scripts/renew.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            enter: Script::new(include_str!("scripts/enter.lua")),
            channel: format!("{}leases", settings.prefix),
            prefix: settings.prefix.clone(),
            owner: owner.to_owned(),
            ttl: millis(settings.ttl),
            keep: millis(settings.ttl + FENCE_OUTLIVES),
            // A waiter repeats it with every poll; one that is gone is soon forgotten.
            want: millis(4 * settings.poll),
        }
    }

    /// The channel on which nodes ask each other.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Makes the scripts known to the server.
    pub(crate) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for script in [&self.acquire, &self.renew, &self.release, &self.enter] {
            let _: String = script.load_async(connection).await?;
        }
        Ok(())
    }

    /// Gives the number of this primary, and for how many milliseconds leases of the one before may
    /// still be held.
    pub(crate) fn enter(&self, run: &str, primary_for: Duration) -> Cmd {
        let mut call = Self::call(&self.enter, 1);
        call.arg(self.primary())
            .arg(run)
            .arg(millis(primary_for))
            .arg(self.ttl);
        call
    }

    pub(crate) fn acquire(
        &self,
        run: Run<'_>,
        id: &UploadId,
        lease: LeaseId,
        floor: u64,
        ask: Ask,
    ) -> Cmd {
        let mut call = Self::call(&self.acquire, 4);
        call.arg(self.key("lease", run, id))
            .arg(self.key("fence", run, id))
            .arg(self.key("want", run, id))
            .arg(self.primary())
            .arg(&self.owner)
            .arg(lease.0)
            .arg(self.ttl)
            .arg(self.keep)
            .arg(floor)
            .arg(ask.to_string())
            .arg(&self.channel)
            .arg(id.as_str())
            .arg(millis(HAND_OVER))
            .arg(self.want)
            .arg(millis(run.unsettled))
            .arg(run.name);
        call
    }

    /// What [`Scripts::acquire`] gave.
    pub(crate) fn answer((granted, value): (u8, u64)) -> Answer {
        if granted == 1 {
            Answer::Granted(Fence(value))
        } else {
            Answer::Busy(Duration::from_millis(value))
        }
    }

    /// Prolongs a lease; the answer is that of [`Scripts::renewal`].
    pub(crate) fn renew(&self, run: Run<'_>, lease: &OwnedLease<LeaseId>) -> Cmd {
        let OwnedLease { id, owner, fence } = lease;
        let mut call = Self::call(&self.renew, 4);
        call.arg(self.key("lease", run, id))
            .arg(self.key("fence", run, id))
            .arg(self.key("want", run, id))
            .arg(self.primary())
            .arg(owner.value(&self.owner))
            .arg(self.ttl)
            .arg(self.keep)
            .arg(fence.0)
            .arg(&self.owner)
            .arg(run.name);
        call
    }

    /// Gives 1, or 0 if the lease is another's.
    pub(crate) fn release(&self, run: Run<'_>, id: &UploadId, lease: LeaseId) -> Cmd {
        let mut call = Self::call(&self.release, 2);
        call.arg(self.key("lease", run, id))
            .arg(self.key("want", run, id))
            .arg(lease.value(&self.owner))
            .arg(&self.owner)
            .arg(millis(HAND_OVER))
            .arg(&self.channel)
            .arg(id.as_str());
        call
    }

    /// Parses the answer of [`Scripts::renew`].
    pub(crate) fn renewal(answer: &str) -> Renewal {
        match answer.strip_prefix('w') {
            None if answer == "0" => Renewal::Lost,
            None => Renewal::Renewed(Ask::Nothing),
            Some(offset) => Renewal::Renewed(parse_offset(offset).map_or(Ask::Nothing, Ask::Yield)),
        }
    }

    fn call(script: &Script, keys: u8) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(keys);
        call
    }

    /// The key that says which server was the primary last.
    fn primary(&self) -> String {
        format!("{}primary", self.prefix)
    }

    /// The braces keep the keys of one upload together where keys are spread over servers.
    fn key(&self, kind: &str, run: Run<'_>, id: &UploadId) -> String {
        format!("{}{kind}:{{{id}}}:{}", self.prefix, run.name)
    }
}
