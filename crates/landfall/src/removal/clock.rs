//! The clock that decides whether something is due: the wall clock, as far as a monotonic clock confirms it.
//!
//! Only this file makes an [`AgreedTime`]. A step of the wall clock forward lets nothing expire before it has lasted as
//! long as it is large, or a day. Nothing is stored here: stores keep the [`ClockMemory`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, MutexGuard};

/// A larger difference between the clocks is a step. A smaller one is the rate at which they run, or a restart, and
/// harmless: lifetimes are longer.
const TOLERANCE: Duration = Duration::from_secs(60);
/// A step is believed at the latest when it has lasted for this time.
const MAX_DOUBT: Duration = Duration::from_secs(24 * 3600);

/// A time that two clocks agree has come. Only a [`RemovalClock`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgreedTime(SystemTime);

impl AgreedTime {
    /// Returns the time.
    #[must_use]
    pub fn time(self) -> SystemTime {
        self.0
    }

    /// Returns whether `due` has come.
    #[must_use]
    pub fn has_reached(self, due: SystemTime) -> bool {
        due <= self.0
    }

    /// Returns the time before which everything with this retention may go.
    #[must_use]
    pub fn before(self, retention: Duration) -> SystemTime {
        self.0.checked_sub(retention).unwrap_or(UNIX_EPOCH)
    }
}

/// The two clocks of a machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock, which an operator, NTP or a battery may set to any time.
    pub wall: SystemTime,
    /// The time since some moment; it cannot be set.
    pub monotonic: Duration,
}

/// The memory of a clock, for the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMemory {
    /// The last time that both clocks agreed on.
    pub agreed: SystemTime,
    /// The wall clock then.
    pub wall: SystemTime,
    /// For how long the wall clock has been ahead of the agreed time by the same step.
    pub doubted: Duration,
    /// The time since then, by a clock that cannot be set; `None` if there is none, as after the machine has
    /// started again.
    pub passed: Option<Duration>,
}

impl ClockMemory {
    /// Returns the memory of a clock that has shown this time, and has no other history.
    #[must_use]
    pub fn last_used(at: SystemTime) -> Self {
        Self {
            agreed: at,
            wall: at,
            doubted: Duration::ZERO,
            passed: None,
        }
    }
}

/// The clock of cleaners, and of requests for an upload that may have expired.
///
/// It follows the wall clock only while the monotonic clock agrees. When the wall clock steps forward, the
/// agreed time follows the monotonic clock, until the step has lasted as long as it is large, at most a day.
/// So a clock that is 30 days ahead for some hours expires nothing, and one that was corrected counts after a
/// day. When the wall clock steps back, the agreed time does, too. A restart is a step from the last agreed time
/// that the store [remembers](ClockMemory), or from the last change of its directory: a process that starts
/// with a wrong clock expires nothing either. While the machine has not started again, its uptime shows how much time
/// passed between two processes. Else only the wall clock does: a repeated `landfall sweep` without a server
/// believes it once it has shown the same for as long, in steps of a day at most.
///
/// With nothing remembered, the time at which the process started is believed: there is nothing older.
pub struct RemovalClock {
    source: Arc<dyn Fn() -> Reading + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    agreed: SystemTime,
    start: Reading,
    last: Reading,
    step: Option<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    ahead: Duration,
    lasted: Duration,
}

impl Step {
    fn remaining_doubt(self) -> Duration {
        self.ahead.min(MAX_DOUBT).saturating_sub(self.lasted)
    }
}

impl RemovalClock {
    /// Returns a clock of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with_source(read)
    }

    /// Returns a clock with another wall clock, such as that of a database.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self::with_source(move || Reading {
            wall: wall(),
            monotonic: monotonic(),
        })
    }

    /// Returns a clock that believes the wall clock, for tests that set it.
    #[must_use]
    pub fn believing(wall: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self::with_source(move || {
            let wall = wall();
            Reading {
                wall,
                monotonic: wall.duration_since(UNIX_EPOCH).unwrap_or_default(),
            }
        })
    }

    /// Returns a clock with other sources, for tests.
    #[must_use]
    pub fn with_source(source: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let first = source();
        Self {
            source: Arc::new(source),
            state: Mutex::new(State {
                agreed: first.wall,
                start: first,
                last: first,
                step: None,
            }),
        }
    }

    /// Adds the memory of an earlier process. The clock continues from there if that is earlier.
    pub fn recall(&self, memory: ClockMemory) {
        let mut state = self.observe();
        let (start, reading) = (state.start, state.last);
        let running = reading.monotonic.saturating_sub(start.monotonic);
        let agreed = memory.agreed + memory.passed.unwrap_or(running);
        let ahead = reading.wall.duration_since(agreed).unwrap_or_default();
        let stopped = start.wall.duration_since(memory.wall).unwrap_or_default();
        let is_restart = memory.passed.is_none()
            && start.wall.duration_since(memory.agreed).unwrap_or_default() <= TOLERANCE;
        if ahead <= TOLERANCE || is_restart {
            return;
        }
        let was_ahead = memory.wall.duration_since(memory.agreed);
        let was_ahead = was_ahead.ok().filter(|was| *was > TOLERANCE);
        let lasted = match (was_ahead, memory.passed) {
            (Some(was), Some(passed)) if was.abs_diff(ahead) <= TOLERANCE => {
                memory.doubted.saturating_add(passed)
            }
            // Only the wall clock shows how much time has passed; after more than a day that may be another step.
            (Some(_), None) if stopped <= MAX_DOUBT => memory
                .doubted
                .saturating_add(stopped)
                .saturating_add(running),
            _ => running,
        };
        state.agreed = agreed;
        state.step = Some(Step { ahead, lasted });
        state.believe(reading);
    }

    /// Returns the time that both clocks agree has come.
    pub fn now(&self) -> AgreedTime {
        AgreedTime(self.observe().agreed)
    }

    /// Returns what the next process has to know.
    pub fn memory(&self) -> ClockMemory {
        let state = self.observe();
        ClockMemory {
            agreed: state.agreed,
            wall: state.last.wall,
            doubted: state.step.map_or(Duration::ZERO, |step| step.lasted),
            passed: None,
        }
    }

    /// Returns by how much the wall clock is ahead of the agreed time, if it has stepped.
    pub fn doubted_step(&self) -> Option<Duration> {
        self.observe().step.map(|step| step.ahead)
    }

    /// Returns the time after which `at` has come, at the earliest: a step may be believed before it is over.
    pub(crate) fn time_until(&self, at: SystemTime) -> Duration {
        let state = self.observe();
        let left = |now| at.duration_since(now).unwrap_or_default();
        let doubt = state.step.map_or(Duration::ZERO, Step::remaining_doubt);
        left(state.last.wall).max(doubt.min(left(state.agreed)))
    }

    fn observe(&self) -> MutexGuard<'_, State> {
        let reading = (self.source)();
        let mut state = self.state.lock();
        state.observe(reading);
        state
    }
}

impl State {
    fn observe(&mut self, reading: Reading) {
        let passed = reading.monotonic.saturating_sub(self.last.monotonic);
        self.last = reading;
        self.agreed += passed;
        let ahead = match reading.wall.duration_since(self.agreed) {
            Ok(ahead) if ahead > TOLERANCE => ahead,
            // They agree, or the wall clock has stepped back.
            _ => {
                self.agreed = reading.wall;
                self.step = None;
                return;
            }
        };
        self.step = Some(match self.step {
            Some(step) if step.ahead.abs_diff(ahead) <= TOLERANCE => Step {
                lasted: step.lasted.saturating_add(passed),
                ..step
            },
            // Another step begins anew.
            _ => Step {
                ahead,
                lasted: Duration::ZERO,
            },
        });
        self.believe(reading);
    }

    fn believe(&mut self, reading: Reading) {
        if let Some(step) = self.step
            && step.remaining_doubt().is_zero()
        {
            self.agreed = reading.wall;
            self.step = None;
        }
    }
}

impl Default for RemovalClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RemovalClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.lock().fmt(f)
    }
}

fn read() -> Reading {
    Reading {
        wall: SystemTime::now(),
        monotonic: monotonic(),
    }
}

/// Does not count while the machine sleeps: that is a step, which is believed later.
fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEAR_2026: Duration = Duration::from_secs(1_780_000_000);

    #[derive(Clone)]
    struct Simulation(Arc<Mutex<Reading>>);

    impl Simulation {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(Reading {
                wall: UNIX_EPOCH + YEAR_2026,
                monotonic: HOUR,
            })))
        }

        fn start(&self) -> RemovalClock {
            let shared = self.0.clone();
            RemovalClock::with_source(move || *shared.lock())
        }

        fn pass(&self, time: Duration) {
            let mut reading = self.0.lock();
            reading.wall += time;
            reading.monotonic += time;
        }

        fn set_ahead(&self, step: Duration) {
            self.0.lock().wall += step;
        }

        fn set_back(&self, step: Duration) {
            self.0.lock().wall -= step;
        }

        fn wall(&self) -> SystemTime {
            self.0.lock().wall
        }
    }

    #[test]
    fn follows_the_wall_clock_while_both_agree() {
        let machine = Simulation::new();
        let clock = machine.start();
        for _ in 0..1000 {
            machine.pass(Duration::from_secs(600));
            // NTP slews.
            machine.set_ahead(Duration::from_millis(100));
            assert_eq!(clock.now().0, machine.wall());
        }
    }

    #[test]
    fn a_clock_that_is_ahead_for_some_time_changes_nothing() {
        for (step, lasts) in [
            (30 * DAY, Duration::from_secs(8)),
            (30 * DAY, 23 * HOUR),
            (2 * HOUR, HOUR),
        ] {
            let machine = Simulation::new();
            let clock = machine.start();
            let right = machine.wall();
            machine.set_ahead(step);
            for _ in 0..60 {
                machine.pass(lasts / 60);
                assert!(clock.now().0 <= right + lasts + TOLERANCE);
            }
            machine.set_back(step);
            machine.pass(Duration::from_secs(1));
            let now = clock.now().0;
            assert!(now <= machine.wall() && now + TOLERANCE >= machine.wall());
        }
    }

    #[test]
    fn a_step_counts_when_it_has_lasted() {
        for step in [2 * TOLERANCE, HOUR, 30 * DAY, 20_000 * DAY] {
            let machine = Simulation::new();
            let clock = machine.start();
            machine.set_ahead(step);
            clock.now();
            machine.pass(step.min(DAY) / 2);
            assert!(!clock.now().has_reached(machine.wall()), "{step:?}");
            machine.pass(step.min(DAY) / 2);
            assert!(clock.now().has_reached(machine.wall()), "{step:?}");
        }
    }

    #[test]
    fn the_time_until_another_is_never_too_long() {
        let machine = Simulation::new();
        let clock = machine.start();
        let at = machine.wall() + 7 * DAY;
        assert_eq!(clock.time_until(at), 7 * DAY);
        machine.set_ahead(5 * DAY);
        assert_eq!(clock.time_until(at), 2 * DAY);
        machine.set_ahead(3 * DAY);
        assert_eq!(clock.time_until(at), DAY, "then the step is believed");
        machine.pass(HOUR);
        assert_eq!(clock.time_until(at), 23 * HOUR);
        machine.set_back(8 * DAY);
        assert_eq!(clock.time_until(at), 7 * DAY - HOUR);
        machine.pass(8 * DAY);
        assert_eq!(clock.time_until(at), Duration::ZERO);
    }

    #[test]
    fn another_step_begins_anew() {
        let machine = Simulation::new();
        let clock = machine.start();
        let right = machine.wall();
        for _ in 0..100 {
            machine.set_ahead(HOUR);
            clock.now();
            machine.pass(HOUR / 2);
            clock.now();
        }
        assert!(clock.now().0 <= right + 50 * HOUR);
    }

    #[test]
    fn a_clock_that_steps_back_is_believed_at_once() {
        let machine = Simulation::new();
        let clock = machine.start();
        machine.set_back(DAY);
        assert_eq!(clock.now().0, machine.wall());
        machine.pass(HOUR);
        assert_eq!(clock.now().0, machine.wall());
    }

    #[test]
    fn a_process_that_starts_with_a_wrong_clock_goes_on_from_the_remembered_time() {
        let machine = Simulation::new();
        let memory = machine.start().memory();
        let right = machine.wall();
        machine.set_ahead(30 * DAY);
        // It is restarted again and again.
        let mut memory = memory;
        for _ in 0..20 {
            machine.pass(HOUR);
            let clock = machine.start();
            clock.recall(memory);
            assert!(clock.now().0 <= right + 20 * HOUR + TOLERANCE);
            memory = clock.memory();
        }
        machine.set_back(30 * DAY);
        let clock = machine.start();
        clock.recall(memory);
        assert!(clock.now().0 <= machine.wall());
        machine.pass(20 * HOUR);
        assert_eq!(clock.now().0, machine.wall());
    }

    #[test]
    fn commands_without_a_server_believe_the_clock_when_it_shows_the_same_again() {
        let machine = Simulation::new();
        let mut memory = machine.start().memory();
        let mut agreed = Vec::new();
        for _ in 0..4 {
            machine.pass(DAY);
            let clock = machine.start();
            clock.recall(memory);
            agreed.push(clock.now().has_reached(machine.wall()));
            memory = clock.memory();
        }
        assert_eq!(agreed, [false, true, false, true]);
    }

    #[test]
    fn two_wrong_clocks_in_a_row_change_nothing() {
        // The uptime shows how much time has passed, or does not.
        for shows in [true, false] {
            let machine = Simulation::new();
            let right = machine.wall();
            let remembered = machine.start().memory();
            machine.set_ahead(HOUR);
            let clock = machine.start();
            clock.recall(remembered);
            let mut memory = clock.memory();
            assert_ne!(memory.agreed, memory.wall);
            machine.pass(TOLERANCE);
            machine.set_ahead(30 * DAY);
            memory.passed = shows.then_some(TOLERANCE);
            let clock = machine.start();
            clock.recall(memory);
            assert!(clock.now().0 <= right + 2 * TOLERANCE, "{shows}");
        }
    }

    #[test]
    fn the_uptime_shows_how_much_time_passed_between_two_processes() {
        let machine = Simulation::new();
        let mut memory = machine.start().memory();
        machine.pass(30 * DAY);
        memory.passed = Some(30 * DAY);
        let mut clock = machine.start();
        clock.recall(memory);
        assert!(clock.now().has_reached(machine.wall()));
        // A step that lasts while nothing runs.
        machine.set_ahead(7 * DAY);
        for agrees in [false, true] {
            memory = clock.memory();
            machine.pass(DAY / 2 + TOLERANCE);
            memory.passed = Some(DAY / 2 + TOLERANCE);
            clock = machine.start();
            clock.recall(memory);
            assert_eq!(clock.now().has_reached(machine.wall()), agrees);
        }
    }

    #[test]
    fn what_is_remembered_is_of_the_time_before_the_start() {
        let machine = Simulation::new();
        let memory = ClockMemory::last_used(machine.wall());
        let clock = machine.start();
        machine.pass(HOUR);
        clock.recall(memory);
        assert_eq!(clock.now().0, machine.wall());
    }

    #[test]
    fn a_short_restart_is_forgotten_as_soon() {
        let machine = Simulation::new();
        let memory = machine.start().memory();
        machine.pass(HOUR / 2);
        let clock = machine.start();
        clock.recall(memory);
        assert!(!clock.now().has_reached(machine.wall()));
        machine.pass(HOUR / 2);
        assert!(clock.now().has_reached(machine.wall()));
        // A later time of another process is no step.
        clock.recall(ClockMemory::last_used(machine.wall() + DAY));
        assert!(clock.now().has_reached(machine.wall()));
    }
}
