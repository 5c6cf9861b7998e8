//! Connects a store with a locker, and replaces or disables its optional capabilities.
//!
//! The engine must get a capability from the [`Composer`], never from the store: a disabled one must neither be used
//! nor advertised.

use std::sync::Arc;

use crate::{
    lease::{Locker, MemoryLocker},
    store::{Concatenate, DeferLength, Enumerate, Finish, Read, Store, Terminate},
};

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $without:ident: $trait:ident;)*) => {
        /// A store, a locker, and the optional capabilities of a handler.
        ///
        /// [`Composer::join`] takes everything a store can do in one call, as does
        /// [`Config::new`](crate::Config::new). Each capability can then be replaced or disabled. The
        /// extensions that are advertised to clients follow from the capabilities.
        ///
        /// ```
        /// use landfall::{Composer, lease::MemoryLocker, store::MemoryStore};
        ///
        /// let composer = Composer::join(MemoryStore::new())
        ///     .with_locker(MemoryLocker::new())
        ///     .without_terminator();
        /// assert!(composer.terminator().is_none());
        /// assert!(composer.reader().is_some());
        /// ```
        #[derive(Clone)]
        pub struct Composer {
            store: Arc<dyn Store>,
            locker: Arc<dyn Locker>,
            /// `None`: the capability of the store. `Some(None)`: disabled.
            $($name: Option<Option<Arc<dyn $trait>>>,)*
        }

        impl Composer {
            /// Takes a store with all its capabilities and its locker.
            ///
            /// Without a locker of the store, leases are held in the memory of this process.
            #[must_use]
            pub fn join(store: impl Store) -> Self {
                Self::join_shared(Arc::new(store))
            }

            /// Takes a shared store, like [`Composer::join`].
            #[must_use]
            pub fn join_shared(store: Arc<dyn Store>) -> Self {
                let locker = store.locker().unwrap_or_else(|| Arc::new(MemoryLocker::new()));
                Self { store, locker, $($name: None,)* }
            }

            $(
                $(#[$doc])*
                #[must_use]
                pub fn $with(mut self, $name: impl $trait + 'static) -> Self {
                    self.$name = Some(Some(Arc::new($name)));
                    self
                }

                /// Disables this capability.
                #[must_use]
                pub fn $without(mut self) -> Self {
                    self.$name = Some(None);
                    self
                }

                /// Returns the implementation of this capability, if any.
                #[must_use]
                pub fn $name(&self) -> Option<&dyn $trait> {
                    match &self.$name {
                        None => self.store.capabilities().$name,
                        Some(other) => other.as_deref(),
                    }
                }
            )*
        }
    };
}

capabilities! {
    /// Sets the implementation that removes uploads.
    terminator, with_terminator, without_terminator: Terminate;
    /// Sets the implementation that finishes uploads.
    finisher, with_finisher, without_finisher: Finish;
    /// Sets the implementation that reads uploads.
    reader, with_reader, without_reader: Read;
    /// Sets the implementation that concatenates uploads.
    concatenator, with_concatenator, without_concatenator: Concatenate;
    /// Sets the implementation that stores deferred lengths.
    length_deferrer, with_length_deferrer, without_length_deferrer: DeferLength;
    /// Sets the implementation that lists uploads.
    enumerator, with_enumerator, without_enumerator: Enumerate;
}

impl<S: Store> From<S> for Composer {
    fn from(store: S) -> Self {
        Self::join(store)
    }
}

impl From<Arc<dyn Store>> for Composer {
    fn from(store: Arc<dyn Store>) -> Self {
        Self::join_shared(store)
    }
}

impl Composer {
    /// Sets the locker.
    #[must_use]
    pub fn with_locker(mut self, locker: impl Locker) -> Self {
        self.locker = self.store.guard(Arc::new(locker));
        self
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Returns the locker.
    #[must_use]
    pub fn locker(&self) -> &dyn Locker {
        &*self.locker
    }
}

impl std::fmt::Debug for Composer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Composer")
            .field("store", &self.store)
            .field("locker", &self.locker)
            .finish_non_exhaustive()
    }
}
