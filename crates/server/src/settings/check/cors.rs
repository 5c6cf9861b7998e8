use super::{Findings, Settings};

/// Origins that no configuration intends: an expression that matches one of them matches any.
const FOREIGN_ORIGINS: [&str; 3] = [
    "https://landfall-probe.invalid",
    "http://landfall-probe.invalid",
    // The origin of a sandboxed frame, which every page can create.
    "null",
];

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let cors = &settings.cors;
    if cors.disable {
        findings.without_effect(&findings.given("cors-"), "with --disable-cors");
        return;
    }
    let matched = FOREIGN_ORIGINS
        .into_iter()
        .find(|origin| cors.allow_origin.matches(origin));
    if let Some(origin) = matched.filter(|_| cors.allow_credentials) {
        findings.problem(
            "cors-allow-credentials",
            format!(
                "would let pages of any origin use the cookies of their visitors: \
                 --cors-allow-origin {:?} matches {origin}; write an expression that matches your \
                 origins only, such as ^https://app\\.example\\.com$",
                cors.allow_origin.pattern()
            ),
        );
    }
}
