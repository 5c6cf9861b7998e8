//! Uploads as local files.
