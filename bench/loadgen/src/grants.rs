//! Leave to upload, as the client asks for it: one JSON request, one token.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::fleet::{self, Server};
use crate::http::{Connection, Fault};
use crate::json;

/// Grants that aren't measured.
const WARM: usize = 320;
/// What is granted, in bytes; the size says which one it is.
const SIZE: u64 = 1 << 20;

/// One that was given.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The id that it was asked for with.
    pub(crate) id: String,
    /// What a creation shows.
    pub(crate) token: String,
}

/// Where leave is asked for, and as whom.
#[derive(Debug)]
pub(crate) struct Grants {
    address: SocketAddr,
    path: String,
    key: String,
    /// Begins all ids of this process: the one before it may have used the same database.
    prefix: String,
    asked: AtomicU64,
    /// Tokens that were asked for ahead of their use, by the length they are for.
    ahead: Mutex<HashMap<u64, Vec<String>>>,
}

impl Server for Grants {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn made(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Grants {
    /// Asks nothing yet. `key` is an API key.
    pub(crate) fn new(address: SocketAddr, path: &str, key: &str) -> Self {
        Self {
            address,
            path: path.into(),
            key: key.into(),
            prefix: format!("bench-{}", std::process::id()),
            asked: AtomicU64::new(0),
            ahead: Mutex::default(),
        }
    }

    /// The head of a request of the API, but for the empty line at its end.
    pub(crate) fn head(&self, method: &str, below: &str) -> String {
        let Self {
            address, path, key, ..
        } = self;
        format!(
            "{method} {path}{below} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n"
        )
    }

    /// Asks for leave to upload `length` bytes.
    pub(crate) fn ask(&self, connection: &mut Connection, length: u64) -> Result<Grant, Fault> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.prefix);
        let body = format!(
            "{{\"id\":\"{id}\",\"filename\":\"measured.bin\",\"filesize\":{length},\"filetype\":\"application/octet-stream\"}}"
        );
        let request = format!(
            "{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.head("POST", ""),
            body.len()
        );
        let (reply, body) = connection.ask(&request)?;
        reply
            .expect("POST of a grant", &[200, 201])
            .map_err(|fault| format!("{fault}: {}", body.trim()))?;
        let token = json::text(&body, "upload_token").unwrap_or_default();
        if token.len() < 40 || json::text(&body, "request_id") != Some(&id) {
            return Err(format!("a grant without its token and id: {body}"));
        }
        let token = token.into();
        Ok(Grant { id, token })
    }

    /// Asks for leave that a later [`Grants::token`] takes.
    pub(crate) fn ahead(&self, connection: &mut Connection, length: u64) -> Result<(), Fault> {
        let token = self.ask(connection, length)?.token;
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.entry(length).or_default().push(token);
        Ok(())
    }

    /// A token for an upload of `length` bytes: one that was asked for ahead, or a new one.
    pub(crate) fn token(&self, connection: &mut Connection, length: u64) -> Result<String, Fault> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = ahead.get_mut(&length).and_then(Vec::pop) {
            return Ok(token);
        }
        drop(ahead);
        Ok(self.ask(connection, length)?.token)
    }

    /// Whether a grant is still there as it was given.
    fn verify(&self, connection: &mut Connection, id: &str, length: u64) -> Result<(), Fault> {
        let request = format!("{}\r\n", self.head("GET", &format!("/{id}")));
        let (reply, body) = connection.ask(&request)?;
        reply.expect("GET of a grant", &[200])?;
        let said = (
            json::text(&body, "request_id"),
            json::text(&body, "filename"),
            json::text(&body, "state"),
            json::number(&body, "size"),
        );
        if said
            == (
                Some(id),
                Some("measured.bin"),
                Some("received"),
                Some(length),
            )
        {
            return Ok(());
        }
        Err(format!("the grant {id} of {length} bytes became {body}"))
    }
}

/// `count` grants, shared out over the connections. Afterwards all tokens must differ, and the last
/// grant of each connection must be there.
pub(crate) fn asks(grants: &Grants, connections: usize, count: usize) -> Result<(), Fault> {
    let tokens = Mutex::new(HashSet::new());
    fleet::run(
        grants,
        connections,
        |_, connection| {
            // Unmeasured, and on all connections at once, as later.
            for _ in 0..WARM / connections {
                grants.ask(connection, SIZE)?;
            }
            Ok(Vec::with_capacity(count / connections))
        },
        |member| {
            for turn in 0..count / connections {
                let length = SIZE + turn as u64;
                member.time(0, |connection, given| {
                    given.push((grants.ask(connection, length)?, length));
                    Ok(())
                })?;
            }
            Ok(())
        },
        |member| {
            let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            for (grant, _) in &member.state {
                if !tokens.insert(grant.token.clone()) {
                    return Err(format!("the token of {} was given before", grant.id));
                }
            }
            let (grant, length) = member.state.last().ok_or("no grant was given")?;
            grants.verify(&mut member.connection, &grant.id, *length)
        },
    )
}
