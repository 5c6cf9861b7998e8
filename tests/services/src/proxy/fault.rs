//! Faults, and the calls that they apply to.

use std::{fmt, time::Duration};

use super::{Call, Operation};

/// A fault that the proxy injects into a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it goes to the service, and the answer back.
    Pass,
    /// It waits this long before it goes to the service, even if the sender is gone by then.
    Delay(Duration),
    /// The answer waits this long before it goes back.
    DelayAnswer(Duration),
    /// It never reaches the service; the sender gets this answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// S3's code in the body.
        code: &'static str,
    },
    /// It has its effect, and yet the sender gets this answer.
    AnswerAfter {
        /// The HTTP status.
        status: u16,
        /// S3's code in the body.
        code: &'static str,
    },
    /// It never reaches the service; the sender gets a list of parts that is empty.
    NoParts,
    /// The connection breaks before the service gets the call.
    CutBefore,
    /// The connection breaks when the service has half of the body; a call without a body does
    /// not reach it.
    CutInside,
    /// It has its effect, and the connection breaks instead of an answer.
    CutAfter,
    /// The connection breaks in the middle of the answer's body.
    CutAnswer,
    /// The service gets it twice, one right after the other; the first answer goes back.
    Duplicate,
    /// The service gets the call again, this long after its response: a delayed duplicate.
    Echo(Duration),
    /// Neither it nor any later call comes through, until [`super::Proxy::revive`]: the node was
    /// killed before the call.
    Kill,
    /// It has its effect, and then the node is killed, as by [`Self::Kill`].
    KillAfter,
}

impl Fault {
    /// `500 InternalError`, without an effect.
    pub const INTERNAL_ERROR: Self = Self::Answer {
        status: 500,
        code: "InternalError",
    };
    /// `503 SlowDown`, without an effect.
    pub const SLOW_DOWN: Self = Self::Answer {
        status: 503,
        code: "SlowDown",
    };
    /// A 200 that has an error in its body, as CompleteMultipartUpload may give.
    pub const ERROR_IN_200: Self = Self::Answer {
        status: 200,
        code: "InternalError",
    };
    /// `500 InternalError` for a call that has had its effect.
    pub const INTERNAL_ERROR_AFTER: Self = Self::AnswerAfter {
        status: 500,
        code: "InternalError",
    };
}

type Predicate = Box<dyn Fn(&Call) -> bool + Send>;

/// The calls that a fault applies to; without a limit, all of them.
pub struct Rule {
    predicates: Vec<Predicate>,
    skip: usize,
    times: usize,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl Rule {
    /// Every call.
    #[must_use]
    pub fn any() -> Self {
        Self {
            predicates: Vec::new(),
            skip: 0,
            times: usize::MAX,
        }
    }

    /// Calls of one operation.
    #[must_use]
    pub fn on(operation: Operation) -> Self {
        Self::any().matching(move |call| call.operation == operation)
    }

    /// Only calls on a key that ends like this: `.part`, `.info`.
    #[must_use]
    pub fn key_ends(self, end: impl Into<String>) -> Self {
        let end = end.into();
        self.matching(move |call| call.key.ends_with(&end))
    }

    /// Only the part of this number.
    #[must_use]
    pub fn part(self, number: u32) -> Self {
        let number = number.to_string();
        self.matching(move |call| call.parameter("partNumber") == Some(&number))
    }

    /// Only calls for which `predicate` holds.
    #[must_use]
    pub fn matching(mut self, predicate: impl Fn(&Call) -> bool + Send + 'static) -> Self {
        self.predicates.push(Box::new(predicate));
        self
    }

    /// Not the first `calls` ones of those that match.
    #[must_use]
    pub fn skip(mut self, calls: usize) -> Self {
        self.skip = calls;
        self
    }

    /// No more than `calls` of them. A client that tries again meets the fault that often.
    #[must_use]
    pub fn times(mut self, calls: usize) -> Self {
        self.times = calls;
        self
    }

    /// One of them.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Returns whether this call is affected; counts the matching calls.
    pub(super) fn takes(&mut self, call: &Call) -> bool {
        if self.times == 0 || !self.predicates.iter().all(|holds| holds(call)) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// Faults at random places, the same ones for the same seed and order of calls.
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
    rates: Vec<(Fault, f64)>,
}

impl Random {
    pub(super) fn new(seed: u64, rates: &[(Fault, f64)]) -> Self {
        assert!(
            rates.iter().map(|(_, rate)| rate).sum::<f64>() <= 1.0,
            "more faults than calls"
        );
        Self {
            state: seed,
            rates: rates.to_vec(),
        }
    }

    pub(super) fn next(&mut self) -> Fault {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let mut place = (word >> 11) as f64 / (1_u64 << 53) as f64;
        for (fault, rate) in &self.rates {
            if place < *rate {
                return *fault;
            }
            place -= rate;
        }
        Fault::Pass
    }
}
