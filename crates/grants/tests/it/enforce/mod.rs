//! The gate: tokens at creation, and what the queue hears of uploads.

mod crashes;
mod harness;
mod lifecycle;
mod rejections;
