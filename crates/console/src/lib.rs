//! The parts of the programs of Landfall that face a terminal: findings of checks, progress, and arguments.
//!
//! It knows neither servers nor uploads.

mod arguments;
mod finding;
mod progress;

pub use self::arguments::{all, get, parsed};
pub use self::finding::{Finding, Report, Severity};
pub use self::progress::Progress;
