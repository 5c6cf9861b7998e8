//! The limit of open files, and how many connections fit under it.
//!
//! A server that accepts more connections than it has file descriptors for would fail their requests
//! halfway. So the limit is raised as far as the system allows, and connections beyond what fits wait
//! in the listener's queue.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors of a connection: its socket, and the file it writes or reads.
const PER_CONNECTION: u64 = 2;
/// File descriptors for everything else: lock files (64), files and directories that blocking threads
/// have open for a moment, the database, hooks.
const RESERVED: u64 = 256;

/// Raises the soft limit of open files to the hard one and returns it; `None` if there is no limit.
///
/// The usual soft limit of 1024 exists for programs that use `select`.
pub(super) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, limit = limit.current, "failed to raise the limit of open files");
            limit.current
        }
    }
}

/// Returns how many connections may be open at once: as many as wanted, or as many as fit under the
/// limit of open files. Logs which.
pub(super) fn connection_limit(open_files: Option<u64>, wanted: usize) -> usize {
    let Some(open_files) = open_files else {
        tracing::info!(connections = wanted, "connection limit");
        return wanted;
    };
    let fitting = fitting_connections(open_files);
    if fitting < wanted {
        tracing::warn!(
            connections = fitting,
            max_connections = wanted,
            open_files,
            "connection limit lowered to fit the limit of open files; raise it with ulimit -n or \
             LimitNOFILE, or lower -max-connections"
        );
    } else {
        tracing::info!(connections = wanted, open_files, "connection limit");
    }
    wanted.min(fitting)
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
    fn the_lower_limit_counts() {
        assert_eq!(connection_limit(None, 10_000), 10_000);
        assert_eq!(connection_limit(Some(1024), 10_000), 384);
        assert_eq!(connection_limit(Some(1024), 100), 100);
    }
}
