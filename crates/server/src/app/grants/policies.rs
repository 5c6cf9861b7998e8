use std::sync::Arc;

use landfall_messages::BlockingHooks;
use landfall_queue::policy::{HookPolicy, Policy};

use crate::settings::Settings;

pub(in crate::app) fn policies(
    settings: &Settings,
    askers: Vec<Arc<BlockingHooks>>,
) -> Vec<Arc<dyn Policy>> {
    let mut limits = super::limits(&settings.grants.limits);
    // Do not grant a size that creation would reject.
    limits.max_size = settings.largest_grant();
    let mut policies: Vec<Arc<dyn Policy>> = vec![Arc::new(limits)];
    if !askers.is_empty() {
        policies.push(Arc::new(HookPolicy::new(askers)));
    }
    policies
}
