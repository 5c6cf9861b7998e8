//! Callbacks in settings: a shared function, so that the settings can be cloned and have `Debug`.

use std::fmt;
use std::sync::Arc;

/// A function that the program gives. Clones share it.
pub struct Function<F: ?Sized>(pub Arc<F>);

impl<F: ?Sized> Clone for Function<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: ?Sized> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}
