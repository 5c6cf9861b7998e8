//! The engine against the model: random rows of operations on every store, with and without faults,
//! dropped requests, kills and sweeps; and takeovers, one by one.

mod body;
mod client;
mod gate;
mod hook;
mod mutants;
mod op;
mod restart;
mod run;
mod takeover;

use std::{path::Path, sync::Arc, time::Duration};

use landfall::store::{
    MemoryStore, Store,
    file::{FileOptions, FileStore},
};
use landfall_s3::{
    S3Options, S3Store, UploadIds,
    client::{Client, ClientSettings, CredentialSource, Credentials},
};
use landfall_test_services::Garage;
use landfall_testkit::fault::{FaultStore, Faults};

use crate::power_loss::PowerLossStore;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};

use self::{
    gate::{GatedStore, Resume, WriteGate},
    op::Op,
    run::{Mode, ModelRun},
};

fn play(ops: &[Op], run: impl FnOnce() -> ModelRun) -> TestCaseResult {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { run().play(ops).await })
}

fn file_store(dir: &Path) -> Arc<dyn Store> {
    let mut options = FileOptions::default();
    options.orphan_age = Duration::ZERO;
    Arc::new(FileStore::open(dir, options).unwrap())
}

/// A run on a store that is opened by `open`, whose writes can be blocked.
fn gated(resume: Resume, mut open: impl FnMut() -> Arc<dyn Store> + 'static) -> ModelRun {
    let gate = WriteGate::new();
    let opened = gate.clone();
    ModelRun::new(Mode::Exact, move || {
        Arc::new(GatedStore::new(open(), &opened, resume))
    })
    .gated(&gate)
}

/// `PROPTEST_CASES` sets the number of cases; `LANDFALL_LONG=1` raises it to what takes minutes. A case
/// takes a quarter of a second for each takeover, since a writer must be idle for so long.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    let long = std::env::var("LANDFALL_LONG").is_ok_and(|long| long == "1");
    let cases = if long { cases * 60 } else { cases };
    ProptestConfig {
        cases: asked.unwrap_or(cases),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Default::default()
    }
}

/// The model alone cannot say whether HEAD notices it.
#[test]
fn a_part_is_removed_behind_an_incomplete_one() {
    use op::Op;
    let create = |length| Op::Create {
        length,
        partial: true,
        body: None,
    };
    let ops = [
        create(Some(1)),
        create(None),
        Op::Concatenate { parts: vec![6, 31] },
        Op::Terminate { target: 19 },
    ];
    let store = MemoryStore::new();
    let run = || gated(Resume::AsOneAct, move || Arc::new(store.clone()));
    play(&ops, run).unwrap();
}

/// An empty part is missed like any other.
#[test]
fn an_empty_part_is_removed_behind_an_incomplete_one() {
    use op::{At, BodyOp, Declare, Op, Size, Sum};
    let create = |length| Op::Create {
        length: Some(length),
        partial: true,
        body: None,
    };
    let body = BodyOp {
        size: Size::Rest,
        stated: false,
        cut: None,
        checksum: Sum::None,
        frame: 100,
        pauses: false,
    };
    let ops = [
        create(0),
        create(1),
        Op::Concatenate { parts: vec![1, 0] },
        Op::Terminate { target: 0 },
        Op::Append {
            target: 1,
            at: At::Right,
            declare: Declare::Nothing,
            body,
            refused: false,
        },
    ];
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        play(&ops, || {
            gated(Resume::AsOneAct, move || file_store(&path)).in_dir(dir.path())
        })
        .unwrap();
    }
}

/// The next process cannot know whether a completion that was recorded last was emitted, and emits it again.
#[test]
fn a_completion_is_emitted_again_after_a_kill_before_its_acknowledgement() {
    use op::{At, BodyOp, Declare, Op, Size, Sum};
    let body = BodyOp {
        size: Size::Rest,
        stated: false,
        cut: None,
        checksum: Sum::None,
        frame: 100,
        pauses: false,
    };
    let kill = || Op::Kill {
        targets: vec![],
        sent: 0,
        lands: 0,
    };
    let ops = [
        Op::Create {
            length: Some(1),
            partial: true,
            body: None,
        },
        Op::Concatenate { parts: vec![0] },
        Op::Append {
            target: 0,
            at: At::Right,
            declare: Declare::Nothing,
            body,
            refused: false,
        },
        kill(),
        kill(),
    ];
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        play(&ops, || {
            gated(Resume::AsOneAct, move || file_store(&path)).in_dir(dir.path())
        })
        .unwrap();
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn memory_store_matches_the_model(ops in vec(op::any(), 1..40)) {
        let store = MemoryStore::new();
        play(&ops, || gated(Resume::AsOneAct, move || Arc::new(store.clone())))?;
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn file_store_matches_the_model(ops in vec(op::any(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        play(&ops, || gated(Resume::AsOneAct, move || file_store(&path)).in_dir(dir.path()))?;
    }

    #[test]
    fn nothing_acknowledged_is_lost_by_faults(ops in vec(op::any(), 1..40), seed in any::<u64>()) {
        let (store, faults) = (MemoryStore::new(), Faults::none());
        let mode = Mode::Faults(faults.clone(), seed);
        play(&ops, || {
            ModelRun::new(mode, move || Arc::new(FaultStore::new(store.clone(), faults.clone())))
        })?;
    }

    #[test]
    fn nothing_acknowledged_is_lost_by_faults_on_files(
        ops in vec(op::any(), 1..30),
        seed in any::<u64>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (path, faults) = (dir.path().to_owned(), Faults::none());
        let mode = Mode::Faults(faults.clone(), seed);
        play(&ops, || {
            let store = FileStore::new(&path).unwrap();
            ModelRun::new(mode, move || Arc::new(FaultStore::new(store.clone(), faults.clone())))
        })?;
    }

    #[test]
    fn nothing_acknowledged_is_lost_in_a_crash(ops in vec(op::any(), 1..40)) {
        let mut store = PowerLossStore::new(MemoryStore::new());
        play(&ops, || {
            ModelRun::new(Mode::Crashes, move || {
                store = store.crash();
                Arc::new(store.clone())
            })
        })?;
    }
}

/// A store on Garage, as after a process start. Parts are so small that most uploads have several.
fn s3_store(options: &S3Options) -> S3Store {
    let access = Garage::shared().access();
    let settings = ClientSettings {
        endpoint: Some(access.endpoint),
        region: Some(access.region),
        credentials: CredentialSource::Static(Credentials::new(
            &access.access_key,
            &access.secret_key,
        )),
        ..ClientSettings::default()
    };
    S3Store::new(Client::new(settings).unwrap(), options.clone()).unwrap()
}

fn s3_options(stem: &str, ids: UploadIds) -> S3Options {
    let mut options = S3Options::new(Garage::shared().bucket(stem));
    options.min_part = 16 << 10;
    options.part_size = 16 << 10;
    options.ids = ids;
    options
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn nothing_acknowledged_is_lost_when_a_node_on_s3_is_killed(
        ops in vec(op::any(), 1..30),
        plain: bool,
    ) {
        let ids = if plain { UploadIds::Plain } else { UploadIds::Tusd };
        let options = s3_options("crashes", ids);
        play(&ops, || ModelRun::new(Mode::Crashes, move || Arc::new(s3_store(&options))))?;
    }

    #[test]
    fn nothing_acknowledged_is_lost_by_faults_on_s3(
        ops in vec(op::any(), 1..25),
        seed in any::<u64>(),
    ) {
        let faults = Faults::none();
        let options = s3_options("faulty", UploadIds::Tusd);
        let mode = Mode::Faults(faults.clone(), seed);
        play(&ops, || {
            let store = s3_store(&options);
            ModelRun::new(mode, move || Arc::new(FaultStore::new(store.clone(), faults.clone())))
        })?;
    }
}
