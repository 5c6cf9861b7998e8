//! What has to hold between the settings about pages of other sites.

use super::{Findings, Settings};

/// Origins that nobody means: a rule that matches one of them matches those of strangers.
const STRANGERS: [&str; 3] = [
    "https://landfall-probe.invalid",
    "http://landfall-probe.invalid",
    // That of a sandboxed frame, which every page can make.
    "null",
];

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let cors = &settings.cors;
    if cors.disable {
        for name in [
            "cors-allow-origin",
            "cors-allow-credentials",
            "cors-allow-methods",
            "cors-allow-headers",
            "cors-expose-headers",
            "cors-max-age",
        ] {
            findings.without_effect(name, "with disable-cors");
        }
        return;
    }
    let stranger = STRANGERS
        .into_iter()
        .find(|origin| cors.allow_origin.matches(origin));
    if let Some(stranger) = stranger.filter(|_| cors.allow_credentials) {
        findings.problem(
            "cors-allow-credentials",
            format!(
                "would let pages of any origin use the cookies of their visitors: \
                 cors-allow-origin {:?} matches {stranger}; write one that matches your own \
                 origins only, such as ^https://app\\.example\\.com$",
                cors.allow_origin.pattern()
            ),
        );
    }
}
