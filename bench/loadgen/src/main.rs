//! The client side of Landfall's benchmark, and the bare loop that Landfall is compared with.
//!
//! ```text
//! loadgen bare-loop PORT FOLDER                 recv and write, the yardstick
//! loadgen receiver PORT                         the application behind hooks
//! loadgen sync FOLDER COUNT                     what a sync costs on a disk
//! loadgen file FILE PHASE BYTES                 the same bytes as a file, for other clients
//! loadgen stream ADDRESS PATH KIND CONNECTIONS BYTES STEP
//! loadgen small|small-patch ADDRESS PATH KIND CONNECTIONS COUNT
//! loadgen creations ADDRESS PATH KIND CONNECTIONS COUNT
//! loadgen head ADDRESS PATH KIND CONNECTIONS COUNT UPLOADS
//! loadgen slow ADDRESS PATH KIND CONNECTIONS SECONDS
//! loadgen idle ADDRESS PATH KIND CONNECTIONS SECONDS
//! loadgen quiet|running|stalled|stalled-trailers|stalled-http2|greedy ADDRESS PATH KIND COUNT
//! loadgen asks ADDRESS GRANTS KEY CONNECTIONS COUNT
//! loadgen sign-part|sign-batch|sign-form|sign-put|multiparts ADDRESS KEY CONNECTIONS COUNT WARM
//! loadgen listeners ADDRESS PATH GRANTS KEY CONNECTIONS COUNT
//! ```
//!
//! KIND is `tus` or `put`; `tus=CLIENT` says that each request is forwarded for that client.
//! `GRANTS KEY` after the others of `small`, `creations` and `running`: where leave is asked for, and the API key
//! to ask with; then each creation shows a token. The driver, `bench/run`, starts it; see the `report`
//! module for what they say to each other.

mod arrivals;
mod bare_loop;
mod crowd;
mod fleet;
mod grants;
mod http;
mod json;
mod listen;
mod listeners;
mod pattern;
mod receiver;
mod report;
mod signer;
mod signs;
mod target;
mod work;

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use crowd::Crowd;
use grants::Grants;
use http::Fault;
use signer::Signer;
use signs::What;
use target::{Creation, Kind, Target};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // The driver may be gone; then standard error is all that is left.
            if report::say(&format!("fault {fault}")).is_err() {
                eprintln!("loadgen: {fault}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Fault> {
    match *arguments {
        ["bare-loop", port, folder] => bare_loop::serve(number(port)?, Path::new(folder)),
        ["receiver", port] => receiver::serve(number(port)?),
        ["sync", folder, count] => work::sync_cost(folder, number(count)?),
        ["file", file, phase, bytes] => work::file(file, number(phase)?, number(bytes)?),
        ["asks", address, path, key, connections, count] => {
            let grants = Grants::new(number(address)?, path, key);
            grants::asks(&grants, number(connections)?, number(count)?)
        }
        [work, address, key, connections, count, warm]
            if work == "multiparts" || What::named(work).is_some() =>
        {
            let signer = Signer::new(number(address)?, key);
            let (connections, count, warm) = (number(connections)?, number(count)?, number(warm)?);
            match What::named(work) {
                Some(what) => signs::signs(what, &signer, connections, count, warm),
                None => signs::multiparts(&signer, connections, count, warm),
            }
        }
        ["listeners", address, path, grants, key, connections, count] => {
            let (address, kind) = (number(address)?, Kind::Tus);
            let target = Target::discover(address, path.into(), kind, Creation::WithUpload)?;
            let grants = Grants::new(address, grants, key);
            listeners::measure(&target, grants, number(connections)?, number(count)?)
        }
        [mode, address, path, kind, connections, ref rest @ ..] => {
            let creation = match mode {
                "small-patch" => Creation::ThenPatch,
                _ => Creation::WithUpload,
            };
            let (kind, client) = kind.split_once('=').unwrap_or((kind, ""));
            let kind = match kind {
                "tus" => Kind::Tus,
                "put" => Kind::Put,
                _ => return Err(format!("kind {kind:?} is neither tus nor put")),
            };
            let connections = number(connections)?;
            let address = number(address)?;
            let mut target = Target::discover(address, path.into(), kind, creation)?;
            if !client.is_empty() {
                target.forward_for(client);
            }
            if let Some(crowd) = Crowd::named(mode) {
                match rest {
                    [] => {}
                    [grants, key] => {
                        target = target.with_grants(Grants::new(address, grants, key))?;
                    }
                    _ => return Err(format!("can't do {arguments:?}")),
                }
                return crowd::gather(&target, crowd, connections);
            }
            let mut rest = rest;
            if let ("small" | "creations", [count, grants, key]) = (mode, rest) {
                target = target.with_grants(Grants::new(address, grants, key))?;
                rest = std::slice::from_ref(count);
            }
            match (mode, rest) {
                ("stream", [bytes, step]) => {
                    work::stream(&target, connections, number(bytes)?, number(step)?)
                }
                ("small" | "small-patch", [count]) => {
                    work::small(&target, connections, number(count)?)
                }
                ("creations", [count]) => work::creations(&target, connections, number(count)?),
                ("head", [count, uploads]) => {
                    work::heads(&target, connections, number(count)?, number(uploads)?)
                }
                ("slow", [seconds]) => {
                    let hold = Duration::from_secs(number(seconds)?);
                    work::slow(&target, connections, hold)
                }
                ("idle", [seconds]) => {
                    let hold = Duration::from_secs(number(seconds)?);
                    work::idle(&target, connections, hold)
                }
                _ => Err(format!("can't do {arguments:?}")),
            }
        }
        _ => Err(format!("can't do {arguments:?}")),
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, Fault> {
    text.parse()
        .map_err(|_| format!("{text:?} is not what is expected here"))
}
