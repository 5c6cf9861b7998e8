//! Builds the calls of the Lua scripts (`scripts/*.lua`), and parses their responses.
//!
//! Keys and arguments must be in the order that each script states at its start. Durations are in milliseconds. Keys
//! of an upload contain the server's run, so that leases of an earlier primary are never found. Only `load` sends
//! anything.

use std::{sync::Arc, time::Duration};

use landfall::{lease::Fence, upload::UploadId};
use redis::{Cmd, RedisResult, Script, aio::MultiplexedConnection};
use tokio::time::Instant;

use crate::{
    service::{Acquisition, GrantedLease, Renewal, WaitingRequest},
    settings::LeaseSettings,
    table::{OwnedLease, QueuedRelease},
};

/// Time for which a fence is retained after its lease. After that, it starts from the clock again.
const FENCE_RETENTION: Duration = Duration::from_secs(24 * 3600);
const HANDOFF_WINDOW: Duration = Duration::from_millis(100);

/// Parses the request of another node: the offset at which it appends, or `-`.
pub(super) fn request(text: &str) -> Option<WaitingRequest> {
    let offset = match text {
        "-" => None,
        offset => Some(offset.parse().ok()?),
    };
    Some(WaitingRequest { offset })
}

#[derive(Debug)]
pub(super) struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
    enter: Script,
    pub(super) settings: LeaseSettings,
    /// Nodes of earlier releases listen to it alone.
    channel: String,
    owner: String,
}

/// The server of one connection. Its name is part of each key, since leases and fences of an
/// earlier primary or run may be outdated.
#[derive(Debug, Clone)]
pub(super) struct ServerRun {
    pub(super) name: Arc<str>,
    /// The time at which all leases of earlier primaries have expired.
    pub(super) grace_ends: Instant,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Scripts {
    pub(super) fn new(settings: LeaseSettings, owner: String) -> Self {
        Self {
            acquire: Script::new(include_str!("scripts/acquire.lua")),
            renew: Script::new(include_str!("scripts/renew.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            enter: Script::new(include_str!("scripts/enter.lua")),
            channel: format!("{}leases", settings.prefix),
            owner,
            settings,
        }
    }

    /// Returns the channels of messages to this node.
    pub(super) fn channels(&self) -> [String; 2] {
        let own = format!("{}:{}", self.channel, self.owner);
        [own, self.channel.clone()]
    }

    pub(super) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for script in [&self.acquire, &self.renew, &self.release, &self.enter] {
            let _: String = script.load_async(connection).await?;
        }
        Ok(())
    }

    /// Registers the server as primary; returns its number and the grace period in
    /// milliseconds.
    pub(super) fn enter(&self, run: &str, primary_for: Duration) -> Cmd {
        let mut call = Self::call(&self.enter, 1);
        call.arg(self.primary())
            .arg(run)
            .arg(millis(primary_for))
            .arg(millis(self.settings.ttl));
        call
    }

    pub(super) fn acquire(
        &self,
        run: &ServerRun,
        id: &UploadId,
        number: u64,
        min_fence: u64,
        request: Option<WaitingRequest>,
    ) -> Cmd {
        let request = match request {
            None => String::new(),
            Some(WaitingRequest { offset: None }) => "-".to_owned(),
            Some(WaitingRequest {
                offset: Some(offset),
            }) => offset.to_string(),
        };
        let grace = run.grace_ends.saturating_duration_since(Instant::now());
        let mut call = Self::call(&self.acquire, 5);
        call.arg(self.key("lease", run, id))
            .arg(self.key("fence", run, id))
            .arg(self.key("waiter", run, id))
            .arg(self.primary())
            .arg(self.key("unsettled", run, id))
            .arg(&self.owner)
            .arg(number)
            .arg(millis(self.settings.ttl))
            .arg(millis(self.settings.ttl + FENCE_RETENTION))
            .arg(min_fence)
            .arg(request)
            .arg(&self.channel)
            .arg(id.as_str())
            .arg(millis(HANDOFF_WINDOW))
            // A waiter renews it with every poll; that of a dead waiter expires soon.
            .arg(millis(4 * self.settings.poll_interval))
            .arg(millis(grace))
            .arg(&*run.name);
        call
    }

    /// Reads the response of `acquire` to a call sent at `sent`.
    pub(super) fn acquisition(
        &self,
        (granted, value, settled): (u8, u64, u8),
        sent: Instant,
    ) -> Acquisition {
        if granted == 1 {
            return Acquisition::Granted(GrantedLease {
                fence: Fence(value),
                // The renewal returns it.
                waiting: None,
                sent,
                is_settled: settled == 1,
            });
        }
        Acquisition::Held {
            remaining: Duration::from_millis(value),
            poll: self.settings.poll_interval,
        }
    }

    pub(super) fn renew(&self, run: &ServerRun, lease: &OwnedLease) -> Cmd {
        let OwnedLease { id, number, fence } = lease;
        let mut call = Self::call(&self.renew, 5);
        call.arg(self.key("lease", run, id))
            .arg(self.key("fence", run, id))
            .arg(self.key("waiter", run, id))
            .arg(self.primary())
            .arg(self.key("unsettled", run, id))
            .arg(self.value(*number))
            .arg(millis(self.settings.ttl))
            .arg(millis(self.settings.ttl + FENCE_RETENTION))
            .arg(fence.0)
            .arg(&self.owner)
            .arg(&*run.name);
        call
    }

    pub(super) fn release(&self, run: &ServerRun, lease: &QueuedRelease) -> Cmd {
        let QueuedRelease {
            id,
            number,
            is_settled,
            ..
        } = lease;
        let mut call = Self::call(&self.release, 3);
        call.arg(self.key("lease", run, id))
            .arg(self.key("waiter", run, id))
            .arg(self.key("unsettled", run, id))
            .arg(self.value(*number))
            .arg(&self.owner)
            .arg(millis(HANDOFF_WINDOW))
            .arg(&self.channel)
            .arg(id.as_str())
            .arg(u8::from(*is_settled));
        call
    }

    pub(super) fn renewal(reply: &str) -> Renewal {
        match reply.strip_prefix('w') {
            None if reply == "0" => Renewal::Lost,
            None => Renewal::Renewed(None),
            Some(offset) => Renewal::Renewed(request(offset)),
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
        format!("{}primary", self.settings.prefix)
    }

    /// Returns a key of an upload. The braces keep its keys in one hash slot.
    fn key(&self, kind: &str, run: &ServerRun, id: &UploadId) -> String {
        format!("{}{kind}:{{{id}}}:{}", self.settings.prefix, run.name)
    }
}
