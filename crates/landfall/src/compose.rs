//! Putting parts together.

use std::sync::Arc;

use crate::{
    lease::Locker,
    store::{Concatenate, DeferLength, Enumerate, Finish, Read, Store, Terminate},
};

/// A capability: the store's own, another part's, or none.
enum Slot<T: ?Sized> {
    Store,
    Part(Arc<T>),
    Off,
}

macro_rules! capabilities {
    ($($(#[$doc:meta])* $set:ident, $off:ident, $get:ident, $slot:ident: $trait:ident;)*) => {
        /// The parts a handler works with: a store, a locker, and each optional capability.
        ///
        /// [`Composer::join`] takes everything a store can do in one call. Each capability can then be
        /// replaced by another part's, or left out; what is advertised to clients follows from what
        /// is there.
        ///
        /// ```
        /// use landfall::{Composer, lease::MemoryLocker, store::MemoryStore};
        ///
        /// let parts = Composer::join(MemoryStore::new())
        ///     .locker(MemoryLocker::new())
        ///     .without_terminator();
        /// assert!(parts.get_terminator().is_none());
        /// assert!(parts.get_reader().is_some());
        /// ```
        #[derive(Clone)]
        pub struct Composer {
            store: Arc<dyn Store>,
            locker: Arc<dyn Locker>,
            $($slot: Arc<Slot<dyn $trait>>,)*
        }

        impl Composer {
            /// Takes the store with all it can do, its own locker included if it has one; otherwise
            /// leases are kept in this process's memory.
            #[must_use]
            pub fn join(store: impl Store) -> Self {
                Self::join_shared(Arc::new(store))
            }

            /// [`Composer::join`] for a store that is shared already.
            #[must_use]
            pub fn join_shared(store: Arc<dyn Store>) -> Self {
                let locker =
                    store.locker().unwrap_or_else(|| Arc::new(crate::lease::MemoryLocker::new()));
                Self { store, locker, $($slot: Arc::new(Slot::Store),)* }
            }

            /// Takes only the core of the store (create, load, append, save); capabilities are then
            /// added one by one.
            #[must_use]
            pub fn core_only(store: Arc<dyn Store>) -> Self {
                Self {
                    store,
                    locker: Arc::new(crate::lease::MemoryLocker::new()),
                    $($slot: Arc::new(Slot::Off),)*
                }
            }

            $(
                $(#[$doc])*
                #[must_use]
                pub fn $set(mut self, part: Arc<dyn $trait>) -> Self {
                    self.$slot = Arc::new(Slot::Part(part));
                    self
                }

                /// Leaves this capability out.
                #[must_use]
                pub fn $off(mut self) -> Self {
                    self.$slot = Arc::new(Slot::Off);
                    self
                }

                /// The part that does this, if any.
                #[must_use]
                pub fn $get(&self) -> Option<&dyn $trait> {
                    match &*self.$slot {
                        Slot::Store => self.store.$slot(),
                        Slot::Part(part) => Some(&**part),
                        Slot::Off => None,
                    }
                }
            )*
        }
    };
}

capabilities! {
    /// Lets another part remove uploads.
    terminator, without_terminator, get_terminator, terminator: Terminate;
    /// Lets another part finish uploads.
    finisher, without_finisher, get_finisher, finisher: Finish;
    /// Lets another part read uploads.
    reader, without_reader, get_reader, reader: Read;
    /// Lets another part join uploads.
    concatenator, without_concatenator, get_concatenator, concatenator: Concatenate;
    /// Lets another part record lengths that come late.
    length_deferrer, without_length_deferrer, get_length_deferrer, length_deferrer: DeferLength;
    /// Lets another part list uploads.
    enumerator, without_enumerator, get_enumerator, enumerator: Enumerate;
}

impl Composer {
    /// Lets another part hand out leases.
    #[must_use]
    pub fn locker(mut self, locker: impl Locker) -> Self {
        self.locker = Arc::new(locker);
        self
    }

    /// The store.
    #[must_use]
    pub fn get_store(&self) -> &dyn Store {
        &*self.store
    }

    /// The locker.
    #[must_use]
    pub fn get_locker(&self) -> &dyn Locker {
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
