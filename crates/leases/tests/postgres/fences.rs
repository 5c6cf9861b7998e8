//! Fences increase, even if rows or tables are lost.

use std::time::Duration;

use landfall::{
    lease::{Fence, Locker as _},
    upload::UploadId,
};
use landfall_test_services::Postgres;

use crate::{acquire, database, node, quick};

#[tokio::test(flavor = "multi_thread")]
async fn fences_grow_when_the_rows_or_the_tables_are_lost() {
    let (url, settings) = (database(), quick());
    let (one, other) = (node(&url, &settings).await, node(&url, &settings).await);
    let id = UploadId::random();
    let Fence(mut last) = acquire(&one, &id).await.fence();
    for locker in [&one, &other, &one] {
        one.close().await;
        other.close().await;
        Postgres::shared().query(&url, "DELETE FROM leases");
        let Fence(next) = acquire(locker, &id).await.fence();
        assert!(next > last + 1, "{next} after {last}");
        last = next;
    }
    one.close().await;
    let lost = "DROP TABLE leases, landfall_migrations; DROP SEQUENCE lease_fences";
    Postgres::shared().query(&url, lost);
    let later = node(&url, &settings).await;
    let Fence(next) = acquire(&later, &id).await.fence();
    assert!(next > last + 1, "{next} after {last}");
}

/// Later leases of the upload continue without an owner in the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_released_lease_leaves_a_row_without_an_owner() {
    let (url, settings) = (database(), quick());
    let locker = node(&url, &settings).await;
    locker.close().await;
    Postgres::shared().query(&url, "DELETE FROM leases");
    let id = UploadId::new("a/b+c").unwrap();
    let lease = acquire(&locker, &id).await;
    let row = "SELECT name, owner <> '' FROM leases WHERE name <> 'since'";
    assert_eq!(Postgres::shared().query(&url, row), "upload/a/b+c|t\n");
    drop(lease);
    locker.close().await;
    assert_eq!(Postgres::shared().query(&url, row), "upload/a/b+c|f\n");
    assert!(locker.acquire(&id, Duration::ZERO).await.is_ok());
}
