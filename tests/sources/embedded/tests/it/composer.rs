//! See `src/composer.rs`.
