//! tusd's flags whose subject this build doesn't have.
//!
//! They are known, so that they fail with a reason instead of being ignored. Where one only says
//! what holds anyway (its value is tusd's default), it asks for nothing and is let through.
//!
//! To bring one to life, move its name from here to [`sections`](super::sections).

/// Flags that are missing for the same reason.
#[derive(Debug)]
struct Missing {
    /// The rest of a sentence that begins with the flag's name.
    reason: &'static str,
    /// Each flag and tusd's default for it; `false` marks those that need no value.
    flags: &'static [(&'static str, &'static str)],
}

/// A flag that is known but not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Later {
    /// Its name, without dashes.
    pub(super) name: &'static str,
    /// Whether it can stand without a value.
    pub(super) switch: bool,
    /// tusd's default.
    default: &'static str,
    /// The rest of a sentence that begins with the flag's name.
    pub(super) reason: &'static str,
}

impl Later {
    /// Whether this value says no more than what holds anyway.
    pub(super) fn asks_for_nothing(&self, text: &str) -> bool {
        if self.switch {
            super::value::boolean(text) == Ok(false)
        } else {
            // An empty text is a value that somebody forgot, not a default.
            !self.default.is_empty() && text.trim() == self.default
        }
    }
}

/// The flag of this name that isn't here, if there is one.
pub(super) fn later(name: &str) -> Option<Later> {
    all().find(|later| later.name == name)
}

/// All flags that are known but not here.
pub(super) fn all() -> impl Iterator<Item = Later> {
    MISSING.iter().flat_map(|missing| {
        missing.flags.iter().map(|(name, default)| Later {
            name,
            switch: *default == "false",
            default,
            reason: missing.reason,
        })
    })
}

/// The table.
static MISSING: &[Missing] = &[
    Missing {
        reason: "loads programs that speak Go's own protocol; put the code behind hooks-grpc or \
                 hooks-http, or into a WebAssembly plugin for hooks-wasm",
        flags: &[("hooks-plugin", "")],
    },
    Missing {
        reason: "this build has no Google Cloud storage yet",
        flags: &[
            ("gcs-bucket", ""),
            ("gcs-object-prefix", ""),
            ("gcs-endpoint", ""),
        ],
    },
    Missing {
        reason: "this build has no Azure storage yet",
        flags: &[
            ("azure-storage", ""),
            ("azure-container-access-type", ""),
            ("azure-blob-access-tier", ""),
            ("azure-object-prefix", ""),
            ("azure-endpoint", ""),
        ],
    },
    Missing {
        reason: "this build has no TLS yet; put a proxy that does TLS in front, \
                 and see --behind-proxy",
        flags: &[
            ("tls-certificate", ""),
            ("tls-key", ""),
            ("tls-mode", "tls12"),
        ],
    },
    Missing {
        reason: "this build speaks tus 1.0.0 only, not the IETF drafts yet",
        flags: &[("enable-experimental-protocol", "false")],
    },
    Missing {
        reason: "there is no Go program here to look into; see /metrics instead",
        flags: &[
            ("expose-pprof", "false"),
            ("pprof-path", "/debug/pprof/"),
            ("pprof-block-profile-rate", "0"),
            ("pprof-mutex-profile-rate", "0"),
            ("cpuprofile", ""),
        ],
    },
    Missing {
        reason: "gone, as in tusd since 1.0: there is no limit for all uploads together; use a \
                 disk quota, and --max-size for each upload",
        flags: &[("store-size", "0")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_ask_for_nothing_and_other_values_do() {
        let plugin = later("hooks-plugin").unwrap();
        assert!(!plugin.asks_for_nothing(""));
        assert!(!plugin.asks_for_nothing("/srv/hooks/plugin"));
        let pprof = later("expose-pprof").unwrap();
        assert!(pprof.switch && pprof.asks_for_nothing("F"));
        assert!(!pprof.asks_for_nothing("true") && !pprof.asks_for_nothing("maybe"));
        assert!(later("tls-mode").unwrap().asks_for_nothing("tls12"));
    }

    #[test]
    fn no_flag_is_both_here_and_missing() {
        for later in all() {
            assert!(
                super::super::table::setting(later.name).is_none(),
                "{}",
                later.name
            );
        }
    }
}
