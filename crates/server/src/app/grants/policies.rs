//! The policies that decide about grants.

use std::sync::Arc;

use landfall_grants::policy::{HookPolicy, Policy, Rules};
use landfall_hooks::BlockingHooks;

use crate::settings::Settings;

/// The rules of the settings, then the hooks: they decide about every grant, however its bytes arrive.
pub(in crate::app) fn policies(
    settings: &Settings,
    askers: Vec<Arc<BlockingHooks>>,
) -> Vec<Arc<dyn Policy>> {
    let mut limits = super::limits(&settings.grants.limits);
    // What would be refused later isn't granted.
    limits.max_size = settings.largest_grant();
    let mut policies: Vec<Arc<dyn Policy>> = vec![Arc::new(Rules::new(limits))];
    if !askers.is_empty() {
        policies.push(Arc::new(HookPolicy::new(askers)));
    }
    policies
}
