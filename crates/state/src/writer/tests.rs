//! The mechanism of the writer, without a database.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Error {
    Conflict,
    Statement,
    Server,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl BatchError for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::Conflict
    }

    fn is_statement_error(&self) -> bool {
        // Two inserts of one key are both.
        *self != Self::Server
    }
}

/// The work of the writer, by the numbers of the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Failed(Vec<i32>, Error),
    Done(Vec<i32>),
    Rejected(i32),
    GivenUp(Vec<i32>),
    Closed(bool),
}
use Step::{Closed as WasClosed, Done, Failed, GivenUp, Rejected};

/// Fails batches by the rules of a test.
struct Recorder<F> {
    steps: Arc<Mutex<Vec<Step>>>,
    fails: F,
    /// The first transaction waits for it.
    start: Option<Arc<Notify>>,
}

impl<F: FnMut(&[i32]) -> Option<Error> + Send> Execute for Recorder<F> {
    type Command = i32;
    type Output = ();
    type Error = Error;
    const BATCH_SIZE: usize = 4;

    /// A negative command needs zero before it.
    fn add(&mut self, command: i32, batch: &mut Vec<i32>) {
        batch.extend((command < 0).then_some(0));
        batch.push(command);
    }

    fn is_waited_for(&mut self, command: &i32) -> bool {
        *command != 13
    }

    async fn execute(&mut self, batch: &mut [i32]) -> Result<(), Error> {
        if let Some(start) = self.start.take() {
            start.notified().await;
        }
        match (self.fails)(batch) {
            Some(error) => {
                let failed = Failed(batch.to_vec(), error);
                self.steps.lock().unwrap().push(failed);
                Err(error)
            }
            None => Ok(()),
        }
    }

    fn complete(&mut self, batch: Vec<i32>, (): ()) {
        self.steps.lock().unwrap().push(Done(batch));
    }

    fn retry_delay(&mut self, failures: u32, _: &Error) -> Option<Duration> {
        (failures < 2).then_some(Duration::ZERO)
    }

    fn fail(&mut self, batch: Vec<i32>, error: Error) {
        let failed = match error {
            Error::Server => GivenUp(batch),
            _ => Rejected(batch[0]),
        };
        self.steps.lock().unwrap().push(failed);
    }

    async fn close(&mut self, is_requested: bool) {
        self.steps.lock().unwrap().push(WasClosed(is_requested));
    }
}

fn recorder<F: FnMut(&[i32]) -> Option<Error> + Send>(fails: F) -> Recorder<F> {
    Recorder {
        steps: Arc::default(),
        fails,
        start: None,
    }
}

/// Writes one batch and returns the steps.
async fn steps(batch: &[i32], fails: impl FnMut(&[i32]) -> Option<Error> + Send) -> Vec<Step> {
    let mut recorder = recorder(fails);
    write(&mut recorder, batch.to_vec()).await;
    recorder.steps.lock().unwrap().clone()
}

#[tokio::test]
async fn rejected_command_does_not_stop_others_nor_change_their_order() {
    let rejects_3 = |batch: &[i32]| batch.contains(&3).then_some(Error::Statement);
    let steps = steps(&[1, 2, 3, 4, 5], rejects_3).await;
    let failed = |batch: &[i32]| Failed(batch.to_vec(), Error::Statement);
    assert_eq!(
        steps,
        [
            failed(&[1, 2, 3, 4, 5]),
            failed(&[1, 2, 3]),
            Done(vec![1, 2]),
            failed(&[3]),
            Rejected(3),
            Done(vec![4, 5]),
        ]
    );
}

#[tokio::test]
async fn conflict_is_repeated_before_the_batch_is_divided() {
    let mut conflicts = MAX_CONFLICTS + 1;
    let fails = |_: &[i32]| {
        conflicts = conflicts.checked_sub(1)?;
        Some(Error::Conflict)
    };
    let steps = steps(&[1, 2], fails).await;
    let failed = Failed(vec![1, 2], Error::Conflict);
    let expected = iter::repeat_n(failed, 6).chain([Done(vec![1]), Done(vec![2])]);
    assert!(steps.iter().cloned().eq(expected), "{steps:?}");
}

#[tokio::test]
async fn error_of_the_server_is_retried_and_then_fails_the_whole_batch() {
    let failed = Failed(vec![1, 2], Error::Server);
    let down = steps(&[1, 2], |_| Some(Error::Server)).await;
    let mut expected = vec![failed.clone(); 3];
    expected.push(GivenUp(vec![1, 2]));
    assert_eq!(down, expected);
    let mut left = 2;
    let back = |_: &[i32]| {
        left -= 1;
        (left >= 0).then_some(Error::Server)
    };
    assert_eq!(
        steps(&[1, 2], back).await,
        [failed.clone(), failed, Done(vec![1, 2])]
    );
}

#[tokio::test]
async fn command_without_a_caller_is_skipped() {
    assert_eq!(steps(&[13], |_| None).await, []);
    assert_eq!(steps(&[1, 13, 2], |_| None).await, [Done(vec![1, 2])]);
}

/// Sends commands while the first transaction runs.
async fn run_with(gathers: bool, commands: &[i32], is_closed: bool) -> Vec<Step> {
    let mut recorder = recorder(|_| None);
    let (steps, start) = (recorder.steps.clone(), Arc::new(Notify::new()));
    recorder.start = Some(start.clone());
    let (sender, requests) = Commands::channel();
    let writer = tokio::spawn(run(recorder, gathers, requests));
    sender.send(100).await.unwrap();
    // The current-thread runtime executes the writer now, up to its first transaction.
    yield_now().await;
    yield_now().await;
    for command in commands {
        sender.send(*command).await.unwrap();
    }
    start.notify_one();
    if is_closed {
        tokio::join!(sender.close(), sender.close());
        assert!(sender.send(1).await.is_err());
    }
    drop(sender);
    writer.await.unwrap();
    steps.lock().unwrap().clone()
}

#[tokio::test]
async fn commands_that_arrive_during_a_transaction_are_the_next_batch() {
    for gathers in [false, true] {
        let steps = run_with(gathers, &[1, 2, 3, 4, 5], false).await;
        let expected = [
            Done(vec![100]),
            Done(vec![1, 2, 3, 4]),
            Done(vec![5]),
            WasClosed(false),
        ];
        assert_eq!(steps, expected);
    }
}

#[tokio::test]
async fn close_executes_what_was_sent_before_it() {
    let steps = run_with(true, &[1, 2, -1], true).await;
    let expected = [Done(vec![100]), Done(vec![1, 2, 0, -1]), WasClosed(true)];
    assert_eq!(steps, expected);
}
