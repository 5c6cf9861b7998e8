//! The limit of open files, and how many connections fit under it.
//!
//! A server that accepts more connections than it has file descriptors for would fail their requests
//! halfway. So the limit is raised as far as the system allows, and connections beyond what fits wait
//! in the listener's queue.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Its socket, and the file of an upload: streams of HTTP/2 and HTTP/3 have more uploads on a connection, but not
/// more in total.
const PER_CONNECTION: u64 = 2;
/// File descriptors for everything else, so that a connection can be accepted whatever clients do: lock files (64),
/// descriptions (64), files of responses (64), those of blocking threads for a moment, the database, hooks.
const RESERVED: u64 = 256;

/// Raises the soft limit to the hard one: the usual 1024 exists for programs that use `select`.
pub(super) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let (current, maximum) = (limit.maximum, limit.maximum);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        tracing::warn!(%error, limit = limit.current, "failed to raise the limit of open files");
        return limit.current;
    }
    limit.maximum
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimit {
    pub(super) connections: usize,
    wanted: usize,
    open_files: Option<u64>,
}

impl ConnectionLimit {
    pub(super) fn new(open_files: Option<u64>, wanted: usize) -> Self {
        Self {
            connections: open_files.map_or(wanted, |files| wanted.min(fitting_connections(files))),
            wanted,
            open_files,
        }
    }

    /// Returns whether it is much lower than wanted.
    pub(super) const fn is_low(&self) -> bool {
        self.connections < self.wanted / 2
    }
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accepting up to {} connections", self.connections)?;
        match self.open_files {
            Some(open_files) if self.connections < self.wanted => write!(
                f,
                ": --max-connections {} does not fit {open_files} open files, see ulimit -n or LimitNOFILE.",
                self.wanted
            ),
            _ => f.write_str("."),
        }
    }
}

/// Returns how many uploads may be written at once.
pub(super) fn max_transfers(wanted: usize) -> usize {
    ConnectionLimit::new(getrlimit(Resource::Nofile).current, wanted).connections
}

fn fitting_connections(open_files: u64) -> usize {
    let reserved = RESERVED.min(open_files / 2);
    let connections = ((open_files - reserved) / PER_CONNECTION).max(1);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_files_of_the_server() {
        for (open_files, fitting) in [
            (0, 1),
            (3, 1),
            (64, 16),
            (256, 64),
            (1024, 384),
            (20_256, 10_000),
            (1 << 20, 524_160),
        ] {
            assert_eq!(fitting_connections(open_files), fitting, "{open_files}");
        }
    }

    #[test]
    fn the_lower_limit_counts_and_the_line_says_why() {
        for (open_files, wanted, line) in [
            (None, 10_000, "Accepting up to 10000 connections."),
            (Some(1024), 100, "Accepting up to 100 connections."),
            (
                Some(1024),
                10_000,
                "Accepting up to 384 connections: --max-connections 10000 does not fit 1024 open files, \
                 see ulimit -n or LimitNOFILE.",
            ),
        ] {
            assert_eq!(ConnectionLimit::new(open_files, wanted).to_string(), line);
        }
    }
}
