//! The HTTP transport against scripted receivers.

mod delivery;
mod proxies;
mod receiver;
mod redirects;
mod requests;
mod tls;

use std::time::Duration;

use landfall_hooks::http::{Http, HttpSettings, Proxies};
use landfall_hooks::{HookName, Message};

/// Settings without delays and without proxies from the environment.
fn settings(url: impl Into<String>) -> HttpSettings {
    let mut settings = HttpSettings::new(url);
    settings.backoff = Duration::from_millis(10);
    settings.timeout = Duration::from_secs(10);
    settings.proxies = Proxies::none();
    settings
}

fn http(url: impl Into<String>) -> Http {
    Http::new(settings(url)).unwrap()
}

fn sample(hook: HookName) -> Message {
    let mut all = crate::samples::samples().into_iter();
    all.find(|message| message.hook == hook).unwrap()
}
