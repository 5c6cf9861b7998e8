//! Computes from `--hooks-enabled-events` which hooks and events each transport receives.
//!
//! Names with a transport's prefix replace the common ones for that transport. A broker never receives a blocking hook.
//! The order of the transports is fixed, and the checks of the system rely on the first: commands.

use landfall_hooks::{HookName, HookNames};

use super::Hooks;

impl Hooks {
    /// Events that are stored until they are delivered.
    pub const STORED: HookNames = HookNames::from_names(&[
        HookName::PostCreate,
        HookName::PostFinish,
        HookName::PostTerminate,
        HookName::PostExpire,
    ]);

    pub(crate) fn used_names(&self) -> HookNames {
        let used = self.transports().into_iter().filter(|one| one.is_used);
        used.map(|one| one.names)
            .fold(HookNames::from_names(&[]), HookNames::union)
    }

    pub(crate) fn transports(&self) -> [HookTransport; 4] {
        let is_notification = |name: &HookName| !name.is_blocking();
        [
            ("hooks-dir", self.command.dir.is_some()),
            ("hooks-http", self.http.url.is_some()),
            ("hooks-grpc", self.grpc.target.is_some()),
            ("hooks-broker", self.broker.url.is_some()),
        ]
        .map(|(setting, is_used)| {
            let own: HookNames = self.names_for(Some(setting)).into_iter().collect();
            let events = (!own.is_empty()).then_some(own);
            let common = self.common_names().into_iter();
            let common = match setting {
                "hooks-broker" => common.filter(is_notification).collect(),
                _ => common.collect(),
            };
            HookTransport {
                setting,
                is_used,
                events,
                names: events.unwrap_or(common),
            }
        })
    }

    fn names_for(&self, transport: Option<&str>) -> Vec<HookName> {
        let own = self.enabled.iter().filter(|one| one.transport == transport);
        own.map(|one| one.name).collect()
    }

    /// Returns those of transports that have no others: the defaults if each enabled one has a transport.
    pub fn common_names(&self) -> Vec<HookName> {
        match self.names_for(None) {
            names if names.is_empty() => HookNames::DEFAULT.iter().collect(),
            names => names,
        }
    }
}

#[derive(Debug)]
pub(crate) struct HookTransport {
    pub(crate) setting: &'static str,
    pub(crate) is_used: bool,
    /// Its own list.
    pub(crate) events: Option<HookNames>,
    /// Its own list, or those of the enabled names that it supports.
    pub(crate) names: HookNames,
}
