//! What the fuzz targets check.

pub use super::{
    range::{Precondition, RangeRequest},
    urls::{UploadUrls, below},
};
