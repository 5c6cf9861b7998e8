//! Entry points of the fuzz targets; not part of the API.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use crate::{DeliveryError, HookName, HookResponse};

use super::{parse_v2, process::Output};

/// Parses the output of a command that ended with this wait status.
///
/// # Errors
/// The command failed, or printed an invalid response.
pub fn response(
    hook: HookName,
    status: i32,
    stdout: &[u8],
    is_truncated: bool,
) -> Result<HookResponse, DeliveryError> {
    let output = Output {
        status: ExitStatus::from_raw(status),
        stdout: stdout.to_vec(),
        is_truncated,
    };
    parse_v2(hook, &output)
}
