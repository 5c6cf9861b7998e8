//! Tests.
use landfall as _;
