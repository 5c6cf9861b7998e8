//! Checks of the IETF draft "Resumable Uploads for HTTP".

use crate::check::Group;

pub(super) const GROUPS: &[Group] = &[];
