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

    pub(crate) fn transports(&self) -> [HookTransport; 7] {
        let all: HookNames = HookName::ALL.into_iter().collect();
        let notifications = HookName::ALL.into_iter().filter(|name| !name.is_blocking());
        let notifications: HookNames = notifications.collect();
        let (command, http, grpc) = (&self.command, &self.http, &self.grpc);
        let (nats, amqp) = (&self.brokers.nats, &self.brokers.amqp);
        let (redis, kafka) = (&self.brokers.redis, &self.brokers.kafka);
        [
            ("hooks-dir", command.dir.is_some(), command.events),
            ("hooks-http", http.url.is_some(), http.events),
            ("hooks-grpc", grpc.target.is_some(), grpc.events),
            ("hooks-nats", nats.url.is_some(), nats.events),
            ("hooks-amqp", amqp.url.is_some(), amqp.events),
            ("hooks-redis", redis.url.is_some(), redis.events),
            ("hooks-kafka", !kafka.brokers.is_empty(), kafka.events),
        ]
        .map(|(setting, is_used, events)| {
            let supported = match setting {
                "hooks-dir" | "hooks-http" | "hooks-grpc" => all,
                _ => notifications,
            };
            HookTransport {
                setting,
                missing_feature: missing_feature(setting),
                is_used,
                events,
                names: events.unwrap_or(self.enabled_names().intersection(supported)),
            }
        })
    }

    /// Returns [`Self::enabled`] as a set.
    pub fn enabled_names(&self) -> HookNames {
        self.enabled.iter().copied().collect()
    }
}

fn missing_feature(setting: &str) -> Option<&'static str> {
    let (feature, is_compiled_in) = match setting {
        "hooks-http" => ("hooks-http", cfg!(feature = "hooks-http")),
        "hooks-grpc" => ("hooks-grpc", cfg!(feature = "hooks-grpc")),
        "hooks-nats" => ("nats", cfg!(feature = "nats")),
        "hooks-amqp" => ("amqp", cfg!(feature = "amqp")),
        "hooks-redis" => ("redis", cfg!(feature = "redis")),
        "hooks-kafka" => ("kafka", cfg!(feature = "kafka")),
        _ => return None,
    };
    (!is_compiled_in).then_some(feature)
}

#[derive(Debug)]
pub(crate) struct HookTransport {
    pub(crate) setting: &'static str,
    pub(crate) missing_feature: Option<&'static str>,
    pub(crate) is_used: bool,
    /// Its own list.
    pub(crate) events: Option<HookNames>,
    /// Its own list, or those of the enabled names that it supports.
    pub(crate) names: HookNames,
}
