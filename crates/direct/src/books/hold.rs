//! One at a time brings an upload to its end, on all nodes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use landfall::upload::UploadId;
use landfall_database::{DatabaseError, Statement};
use tokio::{task::AbortHandle, time::sleep};

use super::home::Home;

/// Keeps all others, on all nodes, from bringing an upload to its end: see
/// [`Books::hold`](super::Books::hold).
///
/// It is kept up by a task as long as it lives, and let go when it is dropped or, if its process dies,
/// after a while.
#[derive(Debug)]
pub struct Hold {
    grip: Arc<Grip>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct Grip {
    home: Arc<Home>,
    id: UploadId,
    /// A name that nobody else has.
    holder: String,
    span: Duration,
    /// Until when nobody else can have it, by this process's clock; `None` once it is lost.
    until: Mutex<Option<Instant>>,
    is_let_go: AtomicBool,
}

impl Hold {
    /// Takes it in the runtime of `home`, in which this has to run; `None` if somebody has it.
    pub(super) async fn take(
        home: Arc<Home>,
        id: UploadId,
        span: Duration,
    ) -> Result<Option<Self>, DatabaseError> {
        let grip = Arc::new(Grip {
            holder: format!("{:032x}", rand::random::<u128>()),
            home,
            id,
            span,
            until: Mutex::new(None),
            is_let_go: AtomicBool::new(false),
        });
        if !grip.extend(true).await? {
            return Ok(None);
        }
        let keeper = tokio::spawn(keep(grip.clone())).abort_handle();
        Ok(Some(Self { grip, keeper }))
    }

    /// Whether it still keeps others off: not if it was lost, because the database couldn't be
    /// reached for too long. To be asked right before whatever can't be undone.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.grip.is_held()
    }

    /// Lets it go, and returns when others can have it; where it is dropped, that takes a moment.
    ///
    /// # Cancel safety
    /// Dropped, it is let go all the same.
    pub async fn release(self) {
        self.keeper.abort();
        self.grip.is_let_go.store(true, Ordering::Relaxed);
        let grip = self.grip.clone();
        let home = grip.home.clone();
        let released = home.to_the_end(async move {
            grip.free().await;
            Ok(())
        });
        let _ = released.await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keeper.abort();
        if self.grip.is_let_go.load(Ordering::Relaxed) {
            return;
        }
        let grip = self.grip.clone();
        let runtime = &self.grip.home.runtime;
        runtime.spawn(async move { grip.free().await });
    }
}

impl Grip {
    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn is_held(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Takes it or keeps it for another span, counted from before the database hears of it; says
    /// whether it is ours.
    async fn extend(&self, is_new: bool) -> Result<bool, DatabaseError> {
        let began = Instant::now();
        let now = self.home.now();
        let whose = if is_new {
            format!("held_until <= {now}")
        } else {
            "held_by = $1".into()
        };
        let span = super::row::span(self.span);
        let statement = Statement::new(format!(
            "UPDATE direct_uploads SET held_by = $1, held_until = {now} + {span} \
             WHERE id = $2 AND {whose}"
        ));
        let statement = statement.with(self.holder.as_str()).with(self.id.as_str());
        let is_ours = self.home.execute(statement).await? == 1;
        self.set(is_ours.then(|| began + self.span));
        Ok(is_ours)
    }

    async fn free(&self) {
        self.set(None);
        let statement = Statement::new(
            "UPDATE direct_uploads SET held_by = NULL, held_until = 0 WHERE id = $1 AND held_by = $2",
        );
        let statement = statement.with(self.id.as_str()).with(self.holder.as_str());
        if let Err(error) = self.home.execute(statement).await {
            // Others wait for the end of its span.
            tracing::warn!(id = %self.id, %error, "a direct upload can't be let go");
        }
    }
}

/// Keeps it up until it is lost.
async fn keep(grip: Arc<Grip>) {
    while let Some(until) = grip.until() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tracing::error!(id = %grip.id, "a direct upload can't be held any longer");
            grip.set(None);
            return;
        }
        // At a third of the span, and more often when that failed.
        let due = left.saturating_sub(grip.span * 2 / 3);
        sleep(due.max(grip.span / 12)).await;
        match grip.extend(false).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(id = %grip.id, "somebody has taken over a direct upload");
                return;
            }
            Err(error) => {
                tracing::warn!(id = %grip.id, %error, "it can't be said that a direct upload is held");
            }
        }
    }
}
