//! Checks of the fuzz targets.

pub use super::{
    range::{Precondition, RangeRequest},
    urls::{UploadUrls, below},
};
