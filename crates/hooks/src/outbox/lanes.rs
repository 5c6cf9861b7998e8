//! What is delivered from memory: for each upload a lane, in which one event goes after the other.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::Message;

/// Events held in memory, at most; the rest waits in the database.
const MOST: usize = 4096;
/// Their bytes, at most (as JSON; in memory it is about twice as much).
const MOST_BYTES: usize = 16 << 20;

/// A told event that this process has claimed.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) event: Arc<str>,
    pub(super) message: Arc<Message>,
    pub(super) bytes: usize,
    /// Deliveries that failed.
    pub(super) attempts: i64,
    /// When it was told.
    pub(super) since: i64,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Held>,
    /// Its head is being delivered, or failed and is about to be let go of.
    busy: bool,
}

#[derive(Debug, Default)]
struct RouteLanes {
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes that aren't busy.
    ready: VecDeque<Arc<str>>,
}

#[derive(Debug, Default)]
struct State {
    routes: Vec<RouteLanes>,
    held: usize,
    bytes: usize,
}

/// All lanes of a process. Only the writer adds to them, so that their order is that of the database.
#[derive(Debug)]
pub(super) struct Lanes {
    state: Mutex<State>,
    /// For each route: a lane is ready.
    ready: Vec<Notify>,
    /// Something waits in the database for room here.
    is_short: AtomicBool,
    /// There is room again.
    pub(super) roomy: Notify,
}

impl Lanes {
    pub(super) fn new(routes: usize) -> Self {
        let mut state = State::default();
        state.routes.resize_with(routes, RouteLanes::default);
        Self {
            state: Mutex::new(state),
            ready: (0..routes).map(|_| Notify::new()).collect(),
            is_short: AtomicBool::new(false),
            roomy: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more there is room for.
    pub(super) fn room(&self) -> usize {
        let state = self.lock();
        let is_full = state.bytes >= MOST_BYTES;
        let room = if is_full {
            0
        } else {
            MOST.saturating_sub(state.held)
        };
        if room == 0 {
            self.is_short.store(true, Ordering::Release);
        }
        room
    }

    /// Adds to the end of a lane.
    pub(super) fn push(&self, route: usize, upload: &Arc<str>, held: Held) {
        let mut state = self.lock();
        state.held += 1;
        state.bytes += held.bytes;
        let lanes = &mut state.routes[route];
        let lane = lanes.lanes.entry(upload.clone()).or_default();
        let was_idle = lane.queue.is_empty() && !lane.busy;
        lane.queue.push_back(held);
        if was_idle {
            lanes.ready.push_back(upload.clone());
            drop(state);
            self.ready[route].notify_one();
        }
    }

    /// The head of a lane that is ready, which is then busy. Waits for one.
    ///
    /// Cancel safe: nothing is taken before it returns.
    pub(super) async fn next(&self, route: usize) -> (Arc<str>, Held) {
        loop {
            if let Some(found) = self.take(route) {
                return found;
            }
            self.ready[route].notified().await;
        }
    }

    fn take(&self, route: usize) -> Option<(Arc<str>, Held)> {
        let mut state = self.lock();
        let lanes = &mut state.routes[route];
        while let Some(upload) = lanes.ready.pop_front() {
            // Lanes that were let go of may still be listed.
            if let Some(lane) = lanes.lanes.get_mut(&upload)
                && !lane.busy
                && let Some(head) = lane.queue.front()
            {
                let head = head.clone();
                lane.busy = true;
                return Some((upload, head));
            }
        }
        None
    }

    /// Goes on to the next of a lane whose head has arrived. Says how much of the lane was left if it
    /// was let go of meanwhile: nothing.
    pub(super) fn advance(&self, route: usize, upload: &Arc<str>, event: &Arc<str>) {
        let mut state = self.lock();
        let lanes = &mut state.routes[route];
        let Some(lane) = lanes.lanes.get_mut(upload) else {
            return;
        };
        if lane.queue.front().is_none_or(|head| head.event != *event) {
            return;
        }
        lane.busy = false;
        let gone = lane.queue.pop_front().map_or(0, |head| head.bytes);
        let is_empty = lane.queue.is_empty();
        if is_empty {
            lanes.lanes.remove(upload);
        } else {
            lanes.ready.push_back(upload.clone());
        }
        state.held -= 1;
        state.bytes -= gone;
        let has_room = state.held <= MOST / 2 && state.bytes < MOST_BYTES / 2;
        drop(state);
        if !is_empty {
            self.ready[route].notify_one();
        }
        if has_room && self.is_short.swap(false, Ordering::AcqRel) {
            self.roomy.notify_one();
        }
    }

    /// The head of a lane, if it still is `event`.
    pub(super) fn head(&self, route: usize, upload: &Arc<str>, event: &str) -> Option<Held> {
        let state = self.lock();
        let head = state.routes[route].lanes.get(upload)?.queue.front()?;
        (&*head.event == event).then(|| head.clone())
    }

    /// Lets go of a lane: what is in it is the database's again.
    pub(super) fn remove(&self, route: usize, upload: &Arc<str>) {
        let mut state = self.lock();
        if let Some(lane) = state.routes[route].lanes.remove(upload) {
            state.held -= lane.queue.len();
            state.bytes -= lane.queue.iter().map(|held| held.bytes).sum::<usize>();
        }
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        for lanes in &mut state.routes {
            *lanes = RouteLanes::default();
        }
        state.held = 0;
        state.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HookName, message::Number};
    use landfall::{
        hook::RequestInfo,
        upload::{Upload, UploadId},
    };

    fn held(event: &str) -> Held {
        let upload = Upload::new(UploadId::random(), None);
        let request = RequestInfo::default();
        let hook = HookName::PostCreate;
        let message = Message::question(hook, &request, &upload, 0, Number::unique());
        Held {
            event: event.into(),
            message: Arc::new(message),
            bytes: 10,
            attempts: 0,
            since: 0,
        }
    }

    fn take(lanes: &Lanes) -> Option<(String, String)> {
        let (upload, held) = lanes.take(0)?;
        Some((upload.to_string(), held.event.to_string()))
    }

    fn pair(upload: &str, event: &str) -> Option<(String, String)> {
        Some((upload.into(), event.into()))
    }

    #[test]
    fn one_at_a_time_in_each_lane() {
        let lanes = Lanes::new(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        lanes.push(0, &a, held("a1"));
        lanes.push(0, &a, held("a2"));
        lanes.push(0, &b, held("b1"));
        assert_eq!(take(&lanes), pair("a", "a1"));
        assert_eq!(take(&lanes), pair("b", "b1"));
        assert_eq!(take(&lanes), None);
        lanes.push(0, &a, held("a3"));
        assert_eq!(take(&lanes), None, "a1 is still under way");
        lanes.advance(0, &a, &"a1".into());
        assert_eq!(take(&lanes), pair("a", "a2"));
        lanes.advance(0, &a, &"a1".into());
        assert_eq!(take(&lanes), None, "a1 was gone already");
        lanes.advance(0, &a, &"a2".into());
        assert_eq!(take(&lanes), pair("a", "a3"));
    }

    #[test]
    fn what_is_let_go_of_makes_room() {
        let lanes = Lanes::new(1);
        let a: Arc<str> = "a".into();
        for _ in 0..MOST {
            lanes.push(0, &a, held("x"));
        }
        assert_eq!(lanes.room(), 0);
        assert_eq!(take(&lanes), pair("a", "x"));
        lanes.remove(0, &a);
        assert_eq!(lanes.room(), MOST);
        lanes.advance(0, &a, &"x".into());
        assert_eq!(lanes.room(), MOST);
        lanes.push(0, &a, held("y"));
        assert_eq!(take(&lanes), pair("a", "y"), "a new lane is not busy");
    }
}
