//! Model-based tests of the queue.

use std::time::Duration;

use landfall_state::queue::{
    GrantOutcome, Job, JobEnd, JobEventKind, JobState, NewJob, Queue, Report, Scope, StartOutcome,
    StartRequest,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::harness::{Place, asked, upload};

const QUOTA: u64 = 40;
const RESERVE: u64 = 15;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
enum Step {
    Grant(u8, Option<u64>),
    /// Of the n-th job: its upload, digest, length.
    StartRequest(usize, u8, u8, Option<u64>),
    Report(usize, u64),
    JobEnd(usize, u8, u64),
    Go(Duration),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let job = 0..6_usize;
    let size = prop_oneof![Just(None), Just(Some(5)), Just(Some(10)), Just(Some(0))];
    prop_oneof![
        4 => (0..5_u8, size.clone()).prop_map(|(id, size)| Step::Grant(id, size)),
        4 => (job.clone(), 0..2_u8, 0..2_u8, size)
            .prop_map(|(job, upload, digest, length)| Step::StartRequest(job, upload, digest, length)),
        3 => (job.clone(), 0..16_u64).prop_map(|(job, offset)| Step::Report(job, offset)),
        3 => (job, 0..6_u8, 0..12_u64).prop_map(|(job, kind, bytes)| Step::JobEnd(job, kind, bytes)),
        1 => prop_oneof![Just(HOUR / 2), Just(HOUR - Duration::from_millis(1)), Just(Duration::from_millis(1))]
            .prop_map(Step::Go),
        1 => Just(Step::Tidy),
    ]
}

/// The expected job. The offset distinguishes started from progress.
#[derive(Debug, Clone)]
struct Model {
    id: u8,
    asked: Option<u64>,
    size: Option<u64>,
    state: JobState,
    offset: u64,
    used: u64,
    bound: Option<(u8, u8)>,
    /// When it was granted.
    age: Duration,
    was_started: bool,
}

impl Model {
    fn reserved(&self) -> u64 {
        if self.state.is_terminal() {
            return 0;
        }
        self.size.unwrap_or(RESERVE)
    }

    fn lapse(&mut self, now: Duration) -> bool {
        let is_late = self.state == JobState::Received && now >= self.age + HOUR;
        if is_late {
            self.state = JobState::Expired;
        }
        is_late
    }

    fn set_size(&mut self, size: u64) {
        self.size = Some(size);
        self.offset = self.offset.min(size);
    }

    fn reach(&mut self, offset: u64) {
        let offset = self.size.map_or(offset, |size| size.min(offset));
        self.offset = self.offset.max(offset);
    }

    fn start(&mut self, now: Duration, bound: (u8, u8), length: Option<u64>) -> StartOutcome {
        if self.lapse(now) {
            return StartOutcome::Expired;
        }
        if self.state.is_terminal() {
            return StartOutcome::Ended(self.state);
        }
        if let Some((upload, digest)) = self.bound {
            if digest != bound.1 {
                return StartOutcome::Conflict;
            }
            if upload != bound.0 {
                return StartOutcome::Other(super::harness::upload(&format!("u{upload}")));
            }
        }
        match (length, self.size) {
            (Some(length), Some(size)) if length > size => return StartOutcome::TooLarge,
            (Some(length), Some(size)) if length < size => return StartOutcome::Conflict,
            (Some(length), None) => self.set_size(length),
            _ => {}
        }
        self.bound = Some(bound);
        self.was_started = true;
        self.state = JobState::Started;
        StartOutcome::Bound
    }

    fn end(&mut self, end: &JobEnd) -> bool {
        if matches!(end, JobEnd::Removed(_)) {
            let is_completed = self.state == JobState::Completed;
            if is_completed {
                self.state = JobState::Removed;
            }
            return is_completed;
        }
        let is_denied = matches!(end, JobEnd::Denied(..));
        if self.state.is_terminal() || is_denied && self.state != JobState::Received {
            return false;
        }
        self.state = match end {
            JobEnd::Removed(_) => return false,
            JobEnd::Completed(completion) => {
                let bytes = &completion.bytes;
                if self.size.is_none() {
                    self.set_size(*bytes);
                }
                self.used = *bytes;
                self.reach(*bytes);
                JobState::Completed
            }
            JobEnd::Cancelled(_) => JobState::Cancelled,
            JobEnd::Failed(_) | JobEnd::Denied(..) => JobState::Failed,
            JobEnd::Expired => JobState::Expired,
        };
        true
    }
}

fn wanted(id: u8, size: Option<u64>) -> NewJob {
    let mut new = asked("ann", &format!("r{id}"), size);
    new.limits.quota = Some(QUOTA);
    new.limits.max_size = Some(RESERVE);
    new
}

async fn play(place: &Place, steps: Vec<Step>) {
    let mut settings = place.settings();
    let durability = landfall_state::sql::Durability::ProcessCrash;
    settings.connections = Some(settings.database.open(durability).await.unwrap());
    let queue = Queue::open(settings).await.unwrap();
    let mut models: Vec<Model> = Vec::new();
    let mut jobs: Vec<Job> = Vec::new();
    let mut now = Duration::ZERO;
    for step in steps {
        match step {
            Step::Grant(id, size) => {
                let answer = queue.grant(wanted(id, size)).await.unwrap();
                if let Some(model) = models.iter_mut().find(|model| model.id == id) {
                    model.lapse(now);
                    match answer {
                        GrantOutcome::Conflict(_) => assert_ne!(model.asked, size),
                        GrantOutcome::Existing(_, token) => {
                            assert_eq!(model.asked, size);
                            assert_eq!(token.is_some(), !model.state.is_terminal());
                        }
                        other => panic!("{other:?}"),
                    }
                    continue;
                }
                let taken: u64 = models
                    .iter()
                    .map(|model| model.reserved() + model.used)
                    .sum();
                let need = size.unwrap_or(RESERVE);
                match answer {
                    GrantOutcome::Created(job, _) => {
                        assert!(taken + need <= QUOTA, "{taken} + {need}");
                        jobs.push(*job);
                        models.push(Model {
                            id,
                            asked: size,
                            size,
                            state: JobState::Received,
                            offset: 0,
                            used: 0,
                            bound: None,
                            age: now,
                            was_started: false,
                        });
                    }
                    GrantOutcome::LimitExceeded(_) => {
                        assert!(taken + need > QUOTA, "{taken} + {need}")
                    }
                    other => panic!("{other:?}"),
                }
            }
            Step::StartRequest(at, name, digest, length) => {
                let Some(job) = jobs.get(at) else { continue };
                let name_of = format!("u{name}");
                let start = StartRequest::new(upload(&name_of), length, digest.to_string());
                let answer = queue.start(job.id, start).await.unwrap();
                assert_eq!(answer, models[at].start(now, (name, digest), length));
            }
            Step::Report(at, offset) => {
                let Some(job) = jobs.get(at) else { continue };
                if models[at].state != JobState::Started {
                    continue;
                }
                models[at].reach(offset);
                queue.report(Report {
                    job: job.id,
                    part: None,
                    offset,
                    length: None,
                    at: std::time::SystemTime::now(),
                });
            }
            Step::JobEnd(at, kind, bytes) => {
                let Some(job) = jobs.get(at) else { continue };
                let end = match kind {
                    0 => JobEnd::completed(bytes),
                    1 => JobEnd::Cancelled("by its owner".into()),
                    2 => JobEnd::Failed("broken".into()),
                    3 => JobEnd::Removed("by its owner".into()),
                    4 => JobEnd::Denied("by a hook".into(), None),
                    _ => JobEnd::Expired,
                };
                let is_end = queue.finish(job.id, end.clone()).await.unwrap();
                assert_eq!(is_end, models[at].end(&end));
            }
            Step::Go(span) => {
                now += span;
                place.hands.go(span);
            }
            Step::Tidy => {
                let lapsed = models
                    .iter_mut()
                    .filter_map(|model| model.lapse(now).then_some(()))
                    .count();
                let tidied = queue.purge().await.unwrap();
                assert_eq!(tidied, (u64::try_from(lapsed).unwrap(), 0));
            }
        }
    }
    // Writes pending reports.
    queue.close().await;
    let queue = place.queue().await;
    for (job, model) in jobs.iter().zip(&models) {
        let found = queue.get(job.id).await.unwrap().unwrap();
        let state = match model.state {
            JobState::Started if model.offset > 0 => JobState::Progress,
            state => state,
        };
        let found_state = match found.state {
            // The progress was written before the upload turned out to be empty.
            JobState::Progress if found.size == Some(0) => JobState::Started,
            state => state,
        };
        assert_eq!(
            (found_state, found.offset, found.size),
            (state, model.offset, model.size)
        );
        assert_eq!(found.ended_at.is_some(), state.is_terminal());
        let events = queue.events(&Scope::All, 0, 1000).await.unwrap();
        let told = |kinds: &[JobEventKind]| {
            let of_job = events.iter().filter(|event| event.job.id == job.id);
            of_job.filter(|event| kinds.contains(&event.kind)).count()
        };
        assert_eq!(
            told(&[JobEventKind::UploadStarted]),
            usize::from(model.was_started)
        );
        assert_eq!(
            told(&JobEventKind::ALL[2..]),
            usize::from(state.is_terminal())
        );
    }
    let totals = queue.totals().await.unwrap();
    for state in JobState::ALL
        .into_iter()
        .filter(|state| state.is_terminal())
    {
        let count = models.iter().filter(|model| model.state == state).count();
        assert_eq!(totals.jobs[state.as_str()], u64::try_from(count).unwrap());
    }
    let sums = "SELECT CAST(COALESCE(SUM(reserved_bytes), 0) AS BIGINT) AS reserved, \
                CAST(COALESCE(SUM(used_bytes), 0) AS BIGINT) AS used FROM queue_usage";
    let row = &place.rows(sums).await[0];
    let sum = |of: fn(&Model) -> u64| i64::try_from(models.iter().map(of).sum::<u64>()).unwrap();
    assert_eq!(row.number("reserved").unwrap(), sum(Model::reserved));
    assert_eq!(row.number("used").unwrap(), sum(|model| model.used));
    queue.close().await;
}

fn run(cases: u32, place: fn() -> Place) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = Config::with_cases(cases);
    config.failure_persistence = None;
    config.max_shrink_iters = 200;
    let steps = proptest::collection::vec(step(), 1..40);
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(play(&place(), steps));
            Ok(())
        })
        .unwrap();
}

#[test]
fn it_does_as_the_model_does() {
    run(24, Place::sqlite);
    #[cfg(feature = "postgres")]
    run(6, Place::postgres);
}
