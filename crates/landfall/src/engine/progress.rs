//! Progress events. One task emits them for all uploads: at most one per interval for each upload
//! whose offset changed, however many requests changed it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

use super::{Engine, live::LiveUpload};
use crate::{
    event::{Event, EventKind, StopHandle},
    upload::SHARDS,
};

const MIN_STEP: Duration = Duration::from_millis(50);
const IDLE_ROUNDS: usize = 2;

impl Engine {
    pub(super) fn start_progress(self: &Arc<Self>) {
        let running = &self.emits_progress;
        if self.event_kinds.progress
            && !running.load(Ordering::Relaxed)
            && !running.swap(true, Ordering::SeqCst)
        {
            let guard = RunningGuard(running.clone());
            tokio::spawn(run(
                Arc::downgrade(self),
                self.config.progress_interval,
                guard,
            ));
        }
    }

    pub(super) fn emit_progress(self: &Arc<Self>, live: &Arc<LiveUpload>) {
        let Some(offset) = live.take_unemitted() else {
            return;
        };
        let (kind, upload) = (EventKind::Progress, live.upload.clone());
        let mut event = Event::new(kind, upload, offset, live.context.info.clone());
        let (engine, runtime) = (Arc::downgrade(self), Handle::current());
        let (id, context) = (live.upload.id.clone(), live.context.clone());
        event.stop_handle = Some(StopHandle(Arc::new(move |reply| {
            if let Some(engine) = engine.upgrade() {
                engine.stop_or_remove(&runtime, &context, &id, reply);
            }
        })));
        self.offer_progress(&event);
    }
}

/// At evenly spaced times.
async fn run(engine: Weak<Engine>, interval: Duration, running: RunningGuard) {
    let steps = (interval.as_millis() / MIN_STEP.as_millis()).clamp(1, SHARDS as u128) as u32;
    let pause = (interval / steps).max(Duration::from_millis(1));
    let mut idle_rounds = 0;
    while idle_rounds < IDLE_ROUNDS {
        let mut is_idle = true;
        for step in 0..steps as usize {
            sleep(pause).await;
            let Some(engine) = engine.upgrade() else {
                return;
            };
            for live in engine.live.recent(step, steps as usize) {
                is_idle = false;
                engine.emit_progress(&live);
            }
        }
        idle_rounds = if is_idle { idle_rounds + 1 } else { 0 };
    }
    drop(running);
    // An upload that started between the last scan and this point has seen the task running.
    if let Some(engine) = engine.upgrade()
        && engine.live.has_recent()
    {
        engine.start_progress();
    }
}

/// Clears the flag on drop: if the runtime ends the task, the next upload starts another.
struct RunningGuard(Arc<AtomicBool>);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
