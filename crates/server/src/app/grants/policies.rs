use std::sync::Arc;

use landfall_messages::BlockingHooks;
use landfall_queue::policy::Policy;

use crate::settings::Settings;

pub(in crate::app) fn policies(
    settings: &Settings,
    askers: Vec<Arc<BlockingHooks>>,
) -> Vec<Arc<dyn Policy>> {
    let mut limits = super::limits(&settings.grants.limits);
    // Do not grant a size that creation would reject.
    limits.max_size = settings.largest_grant();
    let mut policies: Vec<Arc<dyn Policy>> = vec![Arc::new(limits)];
    let hooks = askers.into_iter().map(|hooks| hooks as Arc<dyn Policy>);
    policies.extend(hooks);
    policies
}
