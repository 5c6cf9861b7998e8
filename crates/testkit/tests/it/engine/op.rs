//! Random operations.

use proptest::prelude::*;

/// One step of a client, or of fate. Uploads are chosen by numbers that are taken modulo how many
/// there ever were.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create {
        length: Option<u64>,
        partial: bool,
        body: Option<BodyOp>,
    },
    Append {
        target: usize,
        at: At,
        declare: Declare,
        body: BodyOp,
        /// Whether a hook denies the upload if this completes it.
        refused: bool,
    },
    /// One request hangs after some bytes, another one comes.
    TakeOver {
        target: usize,
        first: u8,
        verified: bool,
        body: BodyOp,
    },
    /// A request hangs after some bytes, and is dropped.
    Vanish {
        target: usize,
        sent: u8,
    },
    /// Two requests at the same time, with the same bytes.
    Race {
        target: usize,
        body: BodyOp,
    },
    /// A request is dropped while its write is blocked; others run before the write continues.
    Block {
        target: usize,
        sent: u8,
        followers: Vec<Follower>,
    },
    /// The server dies during blocked writes, each of which stores some bytes, and restarts.
    Kill {
        targets: Vec<usize>,
        sent: u8,
        lands: u8,
    },
    /// The application stops an upload whose request hangs.
    Stop {
        target: usize,
        sent: u8,
    },
    Concatenate {
        parts: Vec<usize>,
    },
    Terminate {
        target: usize,
    },
    /// The upload expires and is swept away.
    Expire {
        target: usize,
    },
    /// The application takes the description of a finished upload away, and keeps the bytes.
    Adopt {
        target: usize,
    },
    /// An unrelated file is put into the directory, or left by a dead process.
    Litter(Litter),
    Sweep,
    Download {
        target: usize,
        from: u8,
        to: u8,
    },
    /// The server starts again while a request hangs after some bytes.
    Restart {
        target: usize,
        sent: u8,
    },
}

impl Op {
    /// Declares every trailer with a checksum in the head.
    pub(super) fn declare_trailer(&mut self) {
        let body = match self {
            Self::Create { body, .. } => body.as_mut(),
            Self::Append { body, .. } | Self::TakeOver { body, .. } | Self::Race { body, .. } => {
                Some(body)
            }
            _ => None,
        };
        if let Some(Sum::Trailer { declared, .. }) = body.map(|body| &mut body.checksum) {
            *declared = true;
        }
    }
}

/// A request that comes while a write is blocked.
#[derive(Debug, Clone)]
pub(super) enum Follower {
    Inspect,
    /// From the offset that was acknowledged, or from where the blocked write ends.
    Append {
        ahead: bool,
        body: BodyOp,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Litter {
    /// A temporary file of a description.
    Temporary,
    /// The remains of an interrupted creation.
    Empty,
    /// A description whose bytes are gone.
    Description,
    /// A file that does not belong to the store.
    Unrelated,
}

/// A body, relative to what the upload still takes.
#[derive(Debug, Clone)]
pub(super) struct BodyOp {
    pub(super) size: Size,
    /// Whether it has a `Content-Length`.
    pub(super) stated: bool,
    /// After how many of 255 parts the connection breaks.
    pub(super) cut: Option<u8>,
    pub(super) checksum: Sum,
    /// The most bytes that come at once.
    pub(super) frame: usize,
    /// Whether there are pauses between frames.
    pub(super) pauses: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// All that is missing.
    Rest,
    /// This many of 255 parts of it.
    Part(u8),
    /// This many bytes beyond it.
    Beyond(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Sum {
    None,
    Head { right: bool },
    Trailer { right: bool, declared: bool },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    Right,
    Later(u64),
    Earlier(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Declare {
    Nothing,
    /// The length that the upload should have.
    Right,
    /// Another one.
    Wrong(u64),
}

pub(super) fn any() -> impl Strategy<Value = Op> {
    let target = 0..64_usize;
    let length = prop_oneof![
        1 => Just(Some(0)),
        4 => (1..200_u64).prop_map(Some),
        4 => (1..400_000_u64).prop_map(Some),
        2 => Just(None),
    ];
    let create = (
        length,
        proptest::bool::weighted(0.4),
        proptest::option::weighted(0.6, body()),
    );
    prop_oneof![
        6 => create.prop_map(|(length, partial, body)| Op::Create { length, partial, body }),
        10 => (target.clone(), at(), declare(), body(), proptest::bool::weighted(0.1))
            .prop_map(|(target, at, declare, body, refused)| {
                Op::Append { target, at, declare, body, refused }
            }),
        3 => (target.clone(), proptest::num::u8::ANY, proptest::bool::ANY, body())
            .prop_map(|(target, first, verified, body)| Op::TakeOver { target, first, verified, body }),
        2 => (target.clone(), proptest::num::u8::ANY)
            .prop_map(|(target, sent)| Op::Vanish { target, sent }),
        2 => (target.clone(), body()).prop_map(|(target, body)| Op::Race { target, body }),
        3 => proptest::collection::vec(target.clone(), 0..7)
            .prop_map(|parts| Op::Concatenate { parts }),
        3 => (target.clone(), proptest::num::u8::ANY, proptest::collection::vec(follower(), 1..4))
            .prop_map(|(target, sent, followers)| Op::Block { target, sent, followers }),
        2 => (
            proptest::collection::vec(target.clone(), 1..4),
            proptest::num::u8::ANY,
            proptest::num::u8::ANY,
        )
            .prop_map(|(targets, sent, lands)| Op::Kill { targets, sent, lands }),
        1 => (target.clone(), proptest::num::u8::ANY)
            .prop_map(|(target, sent)| Op::Stop { target, sent }),
        1 => target.clone().prop_map(|target| Op::Adopt { target }),
        1 => litter().prop_map(Op::Litter),
        1 => Just(Op::Sweep),
        1 => target.clone().prop_map(|target| Op::Terminate { target }),
        1 => target.clone().prop_map(|target| Op::Expire { target }),
        2 => (target.clone(), proptest::num::u8::ANY, proptest::num::u8::ANY)
            .prop_map(|(target, from, to)| Op::Download { target, from, to }),
        2 => (target, proptest::num::u8::ANY)
            .prop_map(|(target, sent)| Op::Restart { target, sent }),
    ]
}

fn body() -> impl Strategy<Value = BodyOp> {
    let size = prop_oneof![
        5 => Just(Size::Rest),
        6 => proptest::num::u8::ANY.prop_map(Size::Part),
        1 => (1..2000_u64).prop_map(Size::Beyond),
    ];
    let sum = prop_oneof![
        6 => Just(Sum::None),
        2 => proptest::bool::weighted(0.6).prop_map(|right| Sum::Head { right }),
        2 => (proptest::bool::weighted(0.6), proptest::bool::ANY)
            .prop_map(|(right, declared)| Sum::Trailer { right, declared }),
    ];
    let cut = proptest::option::weighted(0.2, proptest::num::u8::ANY);
    let frame = prop_oneof![Just(100_usize), Just(10_000), Just(1_000_000)];
    (
        size,
        proptest::bool::weighted(0.7),
        cut,
        sum,
        frame,
        proptest::bool::ANY,
    )
        .prop_map(|(size, stated, cut, checksum, frame, pauses)| {
            // A trailer section needs a chunked body.
            let stated = stated && !matches!(checksum, Sum::Trailer { .. });
            BodyOp {
                size,
                stated,
                cut,
                checksum,
                frame,
                pauses,
            }
        })
}

fn follower() -> impl Strategy<Value = Follower> {
    prop_oneof![
        1 => Just(Follower::Inspect),
        3 => (proptest::bool::weighted(0.3), body())
            .prop_map(|(ahead, body)| Follower::Append { ahead, body }),
    ]
}

fn litter() -> impl Strategy<Value = Litter> {
    proptest::sample::select(vec![
        Litter::Temporary,
        Litter::Empty,
        Litter::Description,
        Litter::Unrelated,
    ])
}

fn at() -> impl Strategy<Value = At> {
    prop_oneof![
        10 => Just(At::Right),
        1 => (1..1000_u64).prop_map(At::Later),
        1 => (1..1000_u64).prop_map(At::Earlier),
    ]
}

fn declare() -> impl Strategy<Value = Declare> {
    prop_oneof![
        4 => Just(Declare::Nothing),
        3 => Just(Declare::Right),
        1 => (0..500_000_u64).prop_map(Declare::Wrong),
    ]
}
