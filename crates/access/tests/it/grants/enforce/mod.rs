//! Enforcement: upload tokens, and uploads in the queue.

mod crashes;
mod harness;
mod lifecycle;
mod rejections;
