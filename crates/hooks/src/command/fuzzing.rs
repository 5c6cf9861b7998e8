//! What the fuzz targets reach; not part of the interface.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use super::{process::Output, react_as_v2};
use crate::{Failure, HookName, Reaction};

/// Reads what a program has printed, which ended with this wait status.
///
/// # Errors
/// The program failed, or printed no response.
pub fn reaction(
    hook: HookName,
    status: i32,
    stdout: &[u8],
    is_cut: bool,
) -> Result<Reaction, Failure> {
    let output = Output {
        status: ExitStatus::from_raw(status),
        stdout: stdout.to_vec(),
        is_cut,
    };
    react_as_v2(hook, &output)
}
