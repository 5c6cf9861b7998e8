//! The needs of sources of credentials: small requests, programs, small files, and variables whose value is in a file.
//! It knows no source, and logs nothing, since all of it may be secret.

use std::{
    fs::File,
    io::{self, Read as _},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use landfall::BoxError;
use tokio::{process::Command, time::timeout};

use super::http_send::{HttpSend, collect};
use crate::payload::Payload;

const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

const MAX_VALUE_BYTES: u64 = 64 * 1024;

/// Sends a small request to a service of tokens or metadata.
///
/// # Errors
/// There is no response within the limit, or it is too large.
pub async fn exchange(
    http: &Arc<dyn HttpSend>,
    request: Request<Bytes>,
    limit: Duration,
) -> Result<Response<Bytes>, BoxError> {
    let exchange = async {
        let request = request.map(|body| Payload::from(body).body());
        let (head, body) = http.send(request).await?.into_parts();
        let body = collect(body, limit, MAX_RESPONSE_BYTES).await?;
        Ok(Response::from_parts(head, body))
    };
    let late = |_| format!("no response within {limit:?}");
    timeout(limit, exchange).await.map_err(late)?
}

/// Runs a program without input to its end.
///
/// # Errors
/// It cannot be run, or does not end within the limit.
///
/// # Cancel safety
/// Dropping the call ends the program.
pub async fn run_program(program: &str, args: &[&str], limit: Duration) -> Result<Output, String> {
    let mut command = Command::new(program);
    let command = command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(limit, command.output()).await;
    let output = output.map_err(|_| format!("no end within {limit:?}"))?;
    output.map_err(|error| format!("cannot run {program}: {error}"))
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_file(path: &str, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(max + 1);
    match file.read_to_end(&mut bytes)? as u64 > max {
        true => Err(io::Error::other(format!(
            "the file has more than {max} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// Returns a variable that is not empty. Secrets of containers are files: for the names `in_files`, `<NAME>_FILE` names
/// one with the value, as in tusd's image.
///
/// # Errors
/// The file cannot be read.
pub fn variable_or_file(
    name: &str,
    in_files: &[&str],
    get: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, UnreadableFile> {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    let variable = format!("{name}_FILE");
    let path = get(&variable).filter(|_| in_files.contains(&name));
    let (None, Some(path)) = (get(name), path) else {
        return Ok(get(name));
    };
    let text = read_file(&path, MAX_VALUE_BYTES);
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    match text {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(source) => Err(UnreadableFile {
            variable,
            path,
            source,
        }),
    }
}

/// A file that a variable names cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: cannot read {path:?}: {source}")]
pub struct UnreadableFile {
    /// The variable.
    pub variable: String,
    /// The file.
    pub path: String,
    /// The cause.
    pub source: io::Error,
}
