//! Signed requests to S3: how fast they are given, and whether the bucket takes what they allow.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::fleet::{self, Member};
use crate::http::{Connection, Fault};
use crate::signer::{Multipart, SIZE, Signed, Signer};

/// Most part numbers that S3 knows.
const PARTS: usize = 10_000;
/// Parts of a batch.
const BATCH: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// URLs of parts, one by one.
    Part,
    /// URLs of parts, ten at a time.
    Batch,
    /// Forms for small files.
    Form,
    /// Presigned PUTs.
    Put,
}

impl What {
    /// By the name that the driver uses.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sign-part" => Self::Part,
            "sign-batch" => Self::Batch,
            "sign-form" => Self::Form,
            "sign-put" => Self::Put,
            _ => return None,
        })
    }

    fn of_parts(self) -> bool {
        matches!(self, Self::Part | Self::Batch)
    }
}

/// What a connection asks for, and what it got.
#[derive(Debug)]
struct State {
    upload: Option<Multipart>,
    /// The last one, and the number of its part.
    last: Option<(Signed, usize)>,
    /// What must differ between all.
    names: Vec<String>,
}

impl State {
    fn ask(
        &mut self,
        what: What,
        signer: &Signer,
        connection: &mut Connection,
        turn: usize,
    ) -> Result<(), Fault> {
        let (signed, number) = match (what, &self.upload) {
            (What::Part, Some(upload)) => {
                let number = 1 + turn % PARTS;
                (signer.part(connection, upload, number)?, number)
            }
            (What::Batch, Some(upload)) => {
                let first = 1 + turn * BATCH % PARTS;
                let signed = signer.batch(connection, upload, first, BATCH)?;
                (signed, first + BATCH - 1)
            }
            (What::Put, _) => (signer.put(connection)?, 0),
            _ => (signer.form(connection)?, 0),
        };
        if !what.of_parts() {
            self.names.push(signed.name().into());
        }
        self.last = Some((signed, number));
        Ok(())
    }
}

/// `count` requests, shared out over the connections, after `warm` that aren't measured. Afterwards what
/// was signed last for each connection is uploaded, and for the first one also tried with a signature that
/// is wrong.
pub(crate) fn signs(
    what: What,
    signer: &Signer,
    connections: usize,
    count: usize,
    warm: usize,
) -> Result<(), Fault> {
    let names = Mutex::new(HashSet::new());
    fleet::run(
        signer,
        connections,
        |_, connection| {
            let upload = what.of_parts().then(|| signer.begin(connection));
            let mut state = State {
                upload: upload.transpose()?,
                last: None,
                names: Vec::with_capacity(count / connections),
            };
            for turn in 0..warm / connections {
                state.ask(what, signer, connection, turn)?;
            }
            Ok(state)
        },
        |member| {
            for turn in 0..count / connections {
                member.time(0, |connection, state| {
                    state.ask(what, signer, connection, turn)
                })?;
            }
            Ok(())
        },
        |member| {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            for name in member.state.names.drain(..) {
                if let Some(name) = names.replace(name) {
                    return Err(format!("{name} was signed before"));
                }
            }
            check(signer, member)
        },
    )
}

fn check(signer: &Signer, member: &mut Member<State>) -> Result<(), Fault> {
    let State { upload, last, .. } = &member.state;
    let (signed, number) = last.as_ref().ok_or("nothing was signed")?;
    if member.index == 0 && signed.forged().upload().is_ok() {
        return Err("the bucket took a wrong signature".into());
    }
    let etag = signed.upload()?;
    match upload {
        Some(upload) => signer.complete(&mut member.connection, upload, *number, &etag),
        None => Ok(()),
    }
}

/// `count` uploads from beginning to end: begun, one small part signed and uploaded, and completed.
pub(crate) fn multiparts(
    signer: &Signer,
    connections: usize,
    count: usize,
    warm: usize,
) -> Result<(), Fault> {
    let whole = |connection: &mut Connection| {
        let upload = signer.begin(connection)?;
        let etag = signer.part(connection, &upload, 1)?.upload()?;
        signer.complete(connection, &upload, 1, &etag)
    };
    fleet::run(
        signer,
        connections,
        |_, connection| (0..warm / connections).try_for_each(|_| whole(connection)),
        |member| {
            (0..count / connections)
                .try_for_each(|_| member.time(SIZE as u64, |connection, ()| whole(connection)))
        },
        // The driver counts what is in the bucket.
        |_| Ok(()),
    )
}
