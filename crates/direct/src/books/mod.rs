//! The books: what the queue doesn't know of direct uploads, in the same database.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::upload::UploadId;
use landfall_database::{Connections, DatabaseError};

use crate::{Record, Standing};

/// The books. Cheap to clone. Several processes may share them.
///
/// They may be used from any runtime; the connections belong to the one in which they were opened.
#[derive(Debug, Clone)]
pub struct Books {
    _connections: Connections,
}

impl Books {
    /// Makes or changes the tables.
    ///
    /// # Errors
    /// The database fails, or its tables are newer than this program.
    pub async fn open(connections: Connections) -> Result<Self, DatabaseError> {
        todo!()
    }

    /// Writes one down.
    pub async fn add(&self, record: &Record) -> Result<(), DatabaseError> {
        todo!()
    }

    /// One by its id.
    pub async fn get(&self, id: &UploadId) -> Result<Option<Record>, DatabaseError> {
        todo!()
    }

    /// The newest one of this subject at a key of a bucket, and with this multipart upload if one is
    /// named.
    pub async fn find(
        &self,
        subject: &str,
        bucket: &str,
        key: &str,
        multipart: Option<&str>,
    ) -> Result<Option<Record>, DatabaseError> {
        todo!()
    }

    /// The newest one at a key, whoever's it is: for notifications of the bucket.
    pub async fn at(&self, bucket: &str, key: &str) -> Result<Option<Record>, DatabaseError> {
        todo!()
    }

    /// Writes down what has changed, if it still stands as `from`; says whether it did.
    pub async fn change(&self, record: &Record, from: Standing) -> Result<bool, DatabaseError> {
        todo!()
    }

    /// Keeps all others, on all nodes, from completing, cancelling or expiring one; `None` if somebody
    /// is at it. It is let go when dropped, or a while after its process has died.
    pub async fn hold(&self, id: &UploadId) -> Result<Option<Hold>, DatabaseError> {
        todo!()
    }

    /// Those that are to be looked at by now and that nobody holds, longest overdue first. They are
    /// put off by `again`, so that no other node looks at them meanwhile.
    pub async fn due(
        &self,
        now: SystemTime,
        again: Duration,
        limit: usize,
    ) -> Result<Vec<Record>, DatabaseError> {
        todo!()
    }

    /// Forgets what ended before a time; says how many.
    pub async fn tidy(&self, before: SystemTime) -> Result<u64, DatabaseError> {
        todo!()
    }
}

/// See [`Books::hold`].
#[derive(Debug)]
pub struct Hold {
    _held: Arc<()>,
}
