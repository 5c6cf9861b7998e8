//! Flags for features that Landfall does not have: tusd's, and those that were removed.
//!
//! They fail with a reason. tusd's default is accepted, because it requests no feature.

use super::sections::table::Kind;
use super::value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnsupportedFlag {
    pub(super) name: &'static str,
    default: &'static str,
    /// The rest of a sentence that begins with the flag's name.
    pub(super) reason: &'static str,
}

impl UnsupportedFlag {
    pub(super) fn kind(&self) -> Kind {
        match self.default {
            "false" => Kind::Switch,
            _ => Kind::List("VALUE"),
        }
    }

    /// An empty text is not: it is usually a mistake.
    pub(super) fn is_default(&self, text: &str) -> bool {
        match self.kind() {
            Kind::Switch => value::boolean(text) == Ok(false),
            _ => !self.default.is_empty() && text.trim() == self.default,
        }
    }
}

pub(super) fn unsupported(name: &str) -> Option<UnsupportedFlag> {
    all().find(|flag| flag.name == name)
}

pub(super) fn all() -> impl Iterator<Item = UnsupportedFlag> {
    GROUPS.iter().flat_map(|(flags, reason)| {
        flags.split(' ').map(|flag| {
            let (name, default) = flag.split_once('=').unwrap_or((flag, ""));
            UnsupportedFlag {
                name,
                default,
                reason,
            }
        })
    })
}

/// Flags with their defaults, and the reason. The default `false` marks switches.
static GROUPS: &[(&str, &str)] = &[
    (
        "hooks-plugin",
        "Go plugins are not supported; move the code into a command for --hooks-dir, or behind \
         --hooks-grpc or --hooks-http",
    ),
    (
        "hooks-wasm hooks-wasm-events hooks-wasm-fuel hooks-wasm-memory",
        "removed: WebAssembly plugins are not supported; move the code into a command for \
         --hooks-dir, or behind --hooks-grpc or --hooks-http",
    ),
    (
        "gcs-bucket gcs-object-prefix gcs-endpoint",
        "Google Cloud Storage is not supported yet",
    ),
    (
        "azure-storage azure-container-access-type azure-blob-access-tier azure-object-prefix \
         azure-endpoint",
        "Azure storage is not supported yet",
    ),
    (
        "expose-pprof=false pprof-path=/debug/pprof/ pprof-block-profile-rate=0 \
         pprof-mutex-profile-rate=0 cpuprofile",
        "Go's profiler is not available; see the metrics at /metrics",
    ),
    (
        "store-size=0",
        "removed, as in tusd 1.0: there is no limit for all uploads together; use a disk quota, and \
         --max-size for each upload",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_default_of_tusd_is_accepted() {
        let plugin = unsupported("hooks-plugin").unwrap();
        assert!(!plugin.is_default(""));
        assert!(!plugin.is_default("/srv/hooks/plugin"));
        let pprof = unsupported("expose-pprof").unwrap();
        assert!(pprof.kind() == Kind::Switch && pprof.is_default("F"));
        assert!(!pprof.is_default("true") && !pprof.is_default("maybe"));
        assert!(
            unsupported("pprof-path")
                .unwrap()
                .is_default("/debug/pprof/")
        );
    }

    #[test]
    fn no_flag_is_both_supported_and_unsupported() {
        for flag in all() {
            let setting = super::super::sections::setting(flag.name);
            assert!(setting.is_none(), "{}", flag.name);
        }
    }
}
