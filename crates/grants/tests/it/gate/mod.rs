//! The gate: tokens at creation, and what the queue hears of uploads.

mod crashes;
mod lives;
mod refusals;
mod site;
