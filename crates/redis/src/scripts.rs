use std::{fmt, time::Duration};

use landfall::{
    lease::{Fence, remote::OwnedLease},
    upload::UploadId,
};
use redis::{Cmd, RedisResult, Script, aio::MultiplexedConnection};

use crate::settings::RedisSettings;

/// Time for which a fence is retained after its lease. After that, it starts from the clock again.
const FENCE_RETENTION: Duration = Duration::from_secs(24 * 3600);
const HANDOFF_WINDOW: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum YieldRequest {
    None,
    /// Yield to a request that appends at the offset; `None` if it does not append.
    Yield(Option<u64>),
}

impl fmt::Display for YieldRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Yield(None) => f.write_str("-"),
            Self::Yield(Some(offset)) => offset.fmt(f),
        }
    }
}

pub(crate) fn parse_offset(text: &str) -> Option<Option<u64>> {
    match text {
        "-" => Some(None),
        offset => offset.parse().ok().map(Some),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Renewed(YieldRequest),
    Lost,
}

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
    fence_ttl: Millis,
    waiter_ttl: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcquireReply {
    Granted(Fence),
    /// Another node holds it; it expires after this time unless renewed.
    Held(Duration),
}

/// The server of one connection. Its name is part of each key, since leases and fences of an
/// earlier primary or run may be outdated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerRun<'a> {
    pub(crate) name: &'a str,
    /// Time for which leases of earlier primaries may still be active.
    pub(crate) grace_period: Duration,
}

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
            fence_ttl: millis(settings.ttl + FENCE_RETENTION),
            // A waiter renews it with every poll; that of a dead waiter expires soon.
            waiter_ttl: millis(4 * settings.poll_interval),
        }
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    pub(crate) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for script in [&self.acquire, &self.renew, &self.release, &self.enter] {
            let _: String = script.load_async(connection).await?;
        }
        Ok(())
    }

    /// Registers the server as primary; returns its number and the grace period in
    /// milliseconds.
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
        run: ServerRun<'_>,
        id: &UploadId,
        number: u64,
        min_fence: u64,
        request: YieldRequest,
    ) -> Cmd {
        let mut call = Self::call(&self.acquire, 4);
        call.arg(self.key("lease", run, id))
            .arg(self.key("fence", run, id))
            .arg(self.key("waiter", run, id))
            .arg(self.primary())
            .arg(&self.owner)
            .arg(number)
            .arg(self.ttl)
            .arg(self.fence_ttl)
            .arg(min_fence)
            .arg(request.to_string())
            .arg(&self.channel)
            .arg(id.as_str())
            .arg(millis(HANDOFF_WINDOW))
            .arg(self.waiter_ttl)
            .arg(millis(run.grace_period))
            .arg(run.name);
        call
    }

    pub(crate) fn acquire_reply((granted, value): (u8, u64)) -> AcquireReply {
        if granted == 1 {
            AcquireReply::Granted(Fence(value))
        } else {
            AcquireReply::Held(Duration::from_millis(value))
        }
    }

    pub(crate) fn renew(&self, run: ServerRun<'_>, lease: &OwnedLease) -> Cmd {
        let OwnedLease { id, number, fence } = lease;
        let mut call = Self::call(&self.renew, 4);
        call.arg(self.key("lease", run, id))
            .arg(self.key("fence", run, id))
            .arg(self.key("waiter", run, id))
            .arg(self.primary())
            .arg(self.value(*number))
            .arg(self.ttl)
            .arg(self.fence_ttl)
            .arg(fence.0)
            .arg(&self.owner)
            .arg(run.name);
        call
    }

    pub(crate) fn release(&self, run: ServerRun<'_>, id: &UploadId, number: u64) -> Cmd {
        let mut call = Self::call(&self.release, 2);
        call.arg(self.key("lease", run, id))
            .arg(self.key("waiter", run, id))
            .arg(self.value(number))
            .arg(&self.owner)
            .arg(millis(HANDOFF_WINDOW))
            .arg(&self.channel)
            .arg(id.as_str());
        call
    }

    pub(crate) fn renewal(reply: &str) -> Renewal {
        match reply.strip_prefix('w') {
            None if reply == "0" => Renewal::Lost,
            None => Renewal::Renewed(YieldRequest::None),
            Some(offset) => {
                let offset = parse_offset(offset);
                Renewal::Renewed(offset.map_or(YieldRequest::None, YieldRequest::Yield))
            }
        }
    }

    fn call(script: &Script, keys: u8) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(keys);
        call
    }

    /// Returns the value of a lease of this node.
    fn value(&self, number: u64) -> String {
        format!("{}:{number}", self.owner)
    }

    fn primary(&self) -> String {
        format!("{}primary", self.prefix)
    }

    /// Returns a key of an upload. The braces keep its keys in one hash slot.
    fn key(&self, kind: &str, run: ServerRun<'_>, id: &UploadId) -> String {
        format!("{}{kind}:{{{id}}}:{}", self.prefix, run.name)
    }
}
