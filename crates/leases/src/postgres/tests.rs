#![allow(clippy::unwrap_used)]

use landfall::lease::Fence;
use landfall_test_services::{PgBouncer, Postgres};
use tokio::time::{sleep, timeout};

use super::*;

const TTL: Duration = Duration::from_secs(30);

fn connections() -> Connections {
    let url = Postgres::shared().database("leases");
    Connections::to_postgres(&url, Durability::PowerLoss, 8).unwrap()
}

fn node(connections: &Connections, name: &str) -> PostgresLeases {
    let settings = LeaseSettings {
        ttl: TTL,
        timeout: Duration::from_secs(20),
        poll_interval: Duration::from_secs(5),
        ..LeaseSettings::postgres()
    };
    PostgresLeases::new(connections.clone(), name.to_owned(), settings)
}

fn id(id: &str) -> UploadId {
    UploadId::new(id).unwrap()
}

fn owned(name: &str, number: u64) -> OwnedLease {
    OwnedLease {
        id: id(name),
        number,
        fence: Fence(0),
    }
}

async fn fence(node: &PostgresLeases, name: &str, number: u64) -> Option<u64> {
    match node.acquire(&id(name), number, None).await.unwrap() {
        Acquisition::Granted(granted) => Some(granted.fence.0),
        Acquisition::Held { .. } => None,
    }
}

async fn renewed(node: &PostgresLeases, name: &str, number: u64) -> Renewal {
    node.renew(&[owned(name, number)]).await.unwrap()[0]
}

async fn release(node: &PostgresLeases, name: &str, number: u64) {
    let release = QueuedRelease::new(id(name), number, false);
    node.release(&[release]).await.unwrap();
}

/// Makes all leases expire.
async fn expire_all(connections: &Connections) {
    execute(connections, "UPDATE leases SET expires_at = 0").await;
}

async fn execute(connections: &Connections, sql: &str) {
    connections.fetch(Statement::new(sql)).await.unwrap();
}

async fn rows(connections: &Connections) -> i64 {
    let count = Statement::new("SELECT COUNT(*) AS count FROM leases WHERE name <> 'since'");
    connections.fetch(count).await.unwrap()[0]
        .number("count")
        .unwrap()
}

#[tokio::test]
async fn a_lease_has_one_owner_at_a_time() {
    let connections = connections();
    let (one, two) = (node(&connections, "aa"), node(&connections, "bb"));
    one.migrate().await.unwrap();
    one.migrate().await.unwrap();

    let first = fence(&one, "x/y", 1).await.unwrap();
    match two.acquire(&id("x/y"), 1, None).await.unwrap() {
        Acquisition::Held { remaining, .. } => {
            assert!(remaining > TTL / 2 && remaining <= TTL, "{remaining:?}");
        }
        granted @ Acquisition::Granted(_) => panic!("{granted:?}"),
    }
    // A lease of another owner is neither renewed nor released.
    assert_eq!(renewed(&two, "x/y", 1).await, Renewal::Lost);
    release(&two, "x/y", 1).await;
    assert_eq!(fence(&two, "x/y", 1).await, None);

    // Fences increase by one after a release and after an expiry.
    release(&one, "x/y", 1).await;
    // The release that a call waits for may have a later time than the call.
    let later = "UPDATE leases SET expires_at = expires_at + 60000";
    execute(&connections, later).await;
    assert_eq!(fence(&two, "x/y", 1).await, Some(first + 1));
    expire_all(&connections).await;
    let renewal = renewed(&two, "x/y", 1).await;
    assert_eq!(renewal, Renewal::Renewed(None), "not acquired since");
    expire_all(&connections).await;
    assert_eq!(fence(&one, "x/y", 2).await, Some(first + 2));
    assert_eq!(renewed(&two, "x/y", 1).await, Renewal::Lost);

    // A node replaces its own earlier lease; a delayed call replaces nothing.
    assert_eq!(fence(&one, "x/y", 10).await, Some(first + 3));
    assert_eq!(fence(&one, "x/y", 2).await, None);

    // Many leases at a time.
    let all: Vec<_> = (0..100).map(|n| owned(&format!("many/{n}"), 2)).collect();
    for lease in &all {
        fence(&one, lease.id.as_str(), 2).await.unwrap();
    }
    let renewals = one.renew(&all).await.unwrap();
    assert_eq!(renewals, [Renewal::Renewed(None); 100]);
    assert_eq!(rows(&connections).await, 101);
    let dropped = |lease: OwnedLease| QueuedRelease::new(lease.id, 2, false);
    let all: Vec<_> = all.into_iter().map(dropped).collect();
    one.release(&all).await.unwrap();
    one.purge_older_than(Duration::from_secs(3600))
        .await
        .unwrap();
    assert_eq!(rows(&connections).await, 101, "released just now");
    sleep(Duration::from_millis(5)).await;
    one.purge_older_than(Duration::from_millis(1))
        .await
        .unwrap();
    assert_eq!(rows(&connections).await, 1, "one is owned");

    // After a row was removed, its fences are not reused.
    expire_all(&connections).await;
    one.purge_older_than(Duration::ZERO).await.unwrap();
    assert_eq!(rows(&connections).await, 0);
    let again = fence(&two, "x/y", 1).await.unwrap();
    assert!(again > first + 4, "{again} after {first}");

    // The last fence of a block is not reached.
    let last = "UPDATE leases SET fence = fence + 1048575 - fence % 1048576";
    execute(&connections, last).await;
    release(&two, "x/y", 1).await;
    let next = fence(&two, "x/y", 1).await.unwrap();
    let other = fence(&two, "z", 1).await.unwrap();
    assert!(next > again + 2, "{next} after {again}");
    assert!(other > next + 1000, "{other} and {next} are of one block");
}

async fn next(notices: &mut Listener) -> String {
    let notice = timeout(Duration::from_secs(20), notices.receive());
    notice.await.expect("a notification").unwrap()
}

#[tokio::test]
async fn the_holder_and_the_waiter_are_notified() {
    let connections = connections();
    let (one, two) = (node(&connections, "aa"), node(&connections, "bb"));
    let three = node(&connections, "cc");
    one.migrate().await.unwrap();
    let mut notices = one.subscribe().await.unwrap();
    fence(&one, "x", 1).await.unwrap();

    let acquire = async |node: &PostgresLeases, number, offset| {
        let (id, request) = (id("x"), Some(WaitingRequest { offset }));
        node.acquire(&id, number, request).await.unwrap()
    };
    let held = acquire(&two, 7, Some(5)).await;
    assert!(matches!(held, Acquisition::Held { .. }), "{held:?}");
    let expected = |offset| Some(Message::Yield(id("x"), 1, WaitingRequest { offset }));
    let notice = next(&mut notices).await;
    assert_eq!(one.message(&notice), expected(Some(5)));
    assert_eq!(two.message(&notice), None, "it is for the holder");
    // The notification may have been lost: the renewal reports the waiter too.
    let waiting = Some(WaitingRequest { offset: Some(5) });
    assert_eq!(renewed(&one, "x", 1).await, Renewal::Renewed(waiting));
    // A second waiter comes after the first.
    acquire(&three, 1, None).await;
    assert_eq!(one.message(&next(&mut notices).await), expected(None));

    release(&one, "x", 1).await;
    let notice = next(&mut notices).await;
    assert_eq!(two.message(&notice), Some(Message::Reserved(id("x"))));
    assert_eq!(three.message(&notice), None, "it is for the waiter");
    assert_eq!(fence(&one, "x", 2).await, None, "it is reserved");
    acquire(&three, 1, None).await;
    let granted = acquire(&two, 7, None).await;
    let Acquisition::Granted(GrantedLease { waiting, .. }) = granted else {
        panic!("{granted:?}");
    };
    assert!(waiting.is_some(), "another node waits");
}

/// LISTEN succeeds there, but notifications never arrive.
#[tokio::test]
async fn pgbouncer_in_transaction_mode_needs_its_parameter() {
    let url = Postgres::shared().database("leases");
    let bouncer = PgBouncer::start(&url);
    let url = bouncer.url(&url).replace("statement-cache-capacity=0", "");
    let connections = Connections::to_postgres(&url, Durability::PowerLoss, 5).unwrap();
    let error = node(&connections, "aa").subscribe().await.unwrap_err();
    assert!(matches!(error, DatabaseError::NoNotifications), "{error}");
    assert!(error.to_string().contains("PgBouncer"), "{error}");
}

/// Returns the next notification for a node, as one of the release before receives it or as one of this release.
async fn payload(listener: &mut Listener) -> Option<String> {
    let limit = Duration::from_millis(500);
    timeout(limit, listener.receive())
        .await
        .ok()
        .map(Result::unwrap)
}

#[tokio::test]
async fn only_the_node_that_is_concerned_is_notified() {
    let connections = connections();
    let [one, two, three, older] = ["n1", "n2", "n3", "0a"].map(|name| node(&connections, name));
    one.migrate().await.unwrap();
    let listen = async |channel: &str| {
        let mut listener = connections.listener().await.unwrap();
        listener.listen(channel).await.unwrap();
        listener
    };
    let mut of_one = listen("landfall_leases_n1").await;
    let mut of_two = listen("landfall_leases_n2").await;
    let mut of_three = listen("landfall_leases_n3").await;
    let mut of_all = listen(CHANNEL).await;
    let request = Some(WaitingRequest { offset: Some(5) });
    let acquire = async |node: &PostgresLeases, number| {
        node.acquire(&id("x"), number, request).await.unwrap()
    };

    // Nothing is sent without a waiter.
    acquire(&three, 1).await;
    release(&three, "x", 1).await;
    acquire(&one, 1).await;
    acquire(&two, 1).await;
    assert_eq!(payload(&mut of_one).await.unwrap(), "yield n1:1 6 upload/x");
    release(&one, "x", 1).await;
    assert_eq!(payload(&mut of_two).await.unwrap(), "free n2: upload/x");
    assert!(matches!(acquire(&two, 2).await, Acquisition::Granted(_)));
    assert_eq!(payload(&mut of_all).await, None);

    // With a node of the release before.
    acquire(&older, 1).await;
    assert_eq!(payload(&mut of_two).await.unwrap(), "yield n2:2 6 upload/x");
    release(&two, "x", 2).await;
    assert_eq!(payload(&mut of_all).await.unwrap(), "free 0a: upload/x");
    assert!(matches!(acquire(&older, 2).await, Acquisition::Granted(_)));
    acquire(&one, 3).await;
    assert_eq!(payload(&mut of_all).await.unwrap(), "yield 0a:2 6 upload/x");
    assert_eq!(payload(&mut of_three).await, None);
}

#[tokio::test]
async fn a_lease_is_settled_once_its_former_holder_has_released_it_so() {
    let connections = connections();
    let (one, two) = (node(&connections, "n1"), node(&connections, "n2"));
    one.migrate().await.unwrap();
    let is_settled = async |node: &PostgresLeases, number: u64| {
        let acquired = node.acquire(&id("x"), number, None).await.unwrap();
        let Acquisition::Granted(granted) = acquired else {
            panic!("{acquired:?}");
        };
        granted.is_settled
    };
    let release = async |node: &PostgresLeases, number: u64, is_settled: bool| {
        let release = QueuedRelease::new(id("x"), number, false);
        let release = QueuedRelease {
            is_settled,
            ..release
        };
        node.release(&[release]).await.unwrap();
    };
    assert!(!is_settled(&one, 1).await, "it is unknown");
    release(&one, 1, false).await;
    assert!(!is_settled(&two, 1).await, "it was released unsettled");
    release(&two, 1, true).await;
    assert!(is_settled(&one, 2).await);
    assert!(is_settled(&one, 3).await, "the node knows its own");
    expire_all(&connections).await;
    assert!(!is_settled(&two, 2).await, "it has expired");
    // Reserved for a node that waits.
    let waiting = Some(WaitingRequest { offset: None });
    let held = one.acquire(&id("x"), 4, waiting).await.unwrap();
    assert!(matches!(held, Acquisition::Held { .. }));
    release(&two, 2, true).await;
    assert!(is_settled(&one, 5).await);
}
