//! The conditions of the running server that its operator should know: one list, one text per kind.
//!
//! Code that notices a condition raises it, and clears it when it is over; a limit that was met is over
//! when it is not met for some minutes. The log, `/readyz`, the dashboard and `landfall doctor` show
//! this list and no own texts. `/readyz` is public, so the texts name no file, client or
//! upload: the detail does, which only the log and the dashboard show.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use landfall_http::LogThrottle;
use parking_lot::Mutex;

use landfall_console::{Finding, Severity};

/// After this time without another occurrence, a condition that is not cleared is over.
const OCCURRENCE_LIFETIME: Duration = Duration::from_secs(600);
/// Of one kind; subjects are names of receivers and the like, which settings bound.
const MAX_SUBJECTS: usize = 64;

/// The effect of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// No upload can be accepted: `/readyz` responds with 503.
    NotReady,
    /// Lasts until it is cleared; uploads work.
    Degraded,
    /// Happened, and may happen again; uploads work, except those concerned.
    Occurrence,
}

impl Effect {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Degraded => "degraded",
            Self::Occurrence => "occurrence",
        }
    }
}

macro_rules! conditions {
    ($($kind:ident: $name:literal, $component:literal, $effect:ident, $text:literal, $remedy:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum ConditionKind {
            $($kind,)+
        }

        impl ConditionKind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns the name in the log and in the JSON of the dashboard.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// Returns the part of the server, as the dashboard names it.
            pub(crate) fn component(self) -> &'static str {
                match self { $(Self::$kind => $component,)+ }
            }

            pub(crate) fn effect(self) -> Effect {
                match self { $(Self::$kind => Effect::$effect,)+ }
            }

            /// Returns the problem.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$kind => $text,)+ }
            }

            /// Returns what to do.
            pub(crate) fn remedy(self) -> &'static str {
                match self { $(Self::$kind => $remedy,)+ }
            }
        }
    };
}

conditions! {
    UploadDirectoryMissing: "upload-directory-missing", "store", NotReady,
        "the upload directory is missing",
        "mount or restore it: uploads then continue";
    UploadDirectoryReplaced: "upload-directory-replaced", "store", NotReady,
        "the upload directory was replaced",
        "mount or move the original one back, or restart the server to use the new one";
    UploadDirectoryReadOnly: "upload-directory-read-only", "store", NotReady,
        "the upload directory is read-only",
        "mount it writable; the kernel log may name a failing disk";
    BucketUnreachable: "bucket-unreachable", "store", NotReady,
        "the bucket is unreachable",
        "run landfall doctor s3, gcs or azure";
    LeasesUnavailable: "leases-unavailable", "leases", NotReady,
        "the lease backend is unavailable",
        "start the server that --lease names, or correct its address";
    OutboxFull: "outbox-full", "events", NotReady,
        "too many undelivered events",
        "start the receiver; see landfall events list --pending";
    OutboxUnavailable: "outbox-unavailable", "database", NotReady,
        "the outbox database is unavailable",
        "start the database, or make space on its disk";
    GrantsUnavailable: "grants-unavailable", "database", NotReady,
        "the grants database is unavailable",
        "start the database, make space on its disk, or restore its file";
    DatabaseFull: "database-full", "database", Degraded,
        "PostgreSQL has too many clients already, and accepts no further connection of this server",
        "raise its max_connections, lower --database-connections, or use PgBouncer; landfall doctor has the sum";
    DatabaseLogin: "database-login", "database", Degraded,
        "PostgreSQL rejects the login of this server",
        "correct user, password and database in --database or --lease";
    DatabaseReadOnly: "database-read-only", "database", Degraded,
        "PostgreSQL is a standby, which is read-only",
        "promote it, or name the primary in the URL";
    DiskAlmostFull: "disk-almost-full", "disk", Degraded,
        "less than 5 % of the disk is free",
        "make space; uploads that do not fit get 507 and can be resumed";
    StateDirectoryExposed: "state-directory-exposed", "database", Degraded,
        "other users of this machine can read or replace the server's state",
        "name a directory on a file system with permissions with --state-dir, or mount this one with a \
         umask of 077 for the server's user";
    DamagedUploads: "damaged-uploads", "store", Degraded,
        "descriptions of uploads cannot be read, or contradict the store",
        "landfall doctor files lists them; they are kept until they are mended or removed with DELETE";
    ClockStepped: "clock-stepped", "store", Degraded,
        "the clock has stepped forward; no upload expires by it before it has shown that time for a day at most",
        "correct the clock if it is wrong (timedatectl, chronyc tracking)";
    HookFailing: "hook-failing", "hooks", Degraded,
        "the last call of a hook failed",
        "see HookInvocationError in the log, and the log of the receiver";
    EventsWaiting: "events-waiting", "events", Degraded,
        "events wait for their receiver",
        "see landfall events list --pending and the log of the receiver";
    DeadLetters: "dead-letters", "events", Degraded,
        "events that could not be delivered (dead letters)",
        "retry or delete them: landfall events list, or the dashboard";
    UploadNotServed: "upload-not-served", "store", Occurrence,
        "an upload is not served, because its path leads outside the upload directory, or to no regular file",
        "name its directory with --data-dirs, or move away what is there; landfall doctor files lists all of them";
    HookIgnored: "hook-ignored", "hooks", Occurrence,
        "a response of a hook, or a part of it, was ignored",
        "let the receiver send an empty body, or a JSON object with the fields that this hook has, see docs/hooks.md";
    AddressLimit: "address-limit", "limits", Occurrence,
        "a client address met its limit",
        "raise the setting of the log line (--max-connections-per-address or --max-requests-per-address), \
         or name the proxy with --trusted-proxies";
    ForwardedIgnored: "forwarded-ignored", "limits", Occurrence,
        "ignored forwarded headers from an untrusted proxy",
        "add the address to --trusted-proxies if the proxy is yours";
}

/// A raised condition.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) kind: ConditionKind,
    /// Which of several receivers or backends; may be empty.
    pub(crate) subject: String,
    /// The exact cause; may be empty. Not for the public.
    pub(crate) detail: String,
    pub(crate) since: SystemTime,
    /// The number of occurrences; 1 for one that lasts.
    pub(crate) count: u64,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        match self.detail.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.detail),
        }
    }
}

impl Condition {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.kind.name(),
            "component": self.kind.component(),
            "subject": self.subject,
            "effect": self.kind.effect().as_str(),
            "text": self.kind.text(),
            "detail": self.detail,
            "remedy": self.kind.remedy(),
            "since": humantime::format_rfc3339_millis(self.since).to_string(),
            "count": self.count,
        })
    }
}

#[derive(Debug)]
struct Entry {
    condition: Condition,
    last: Instant,
    is_over: bool,
    /// Kept when the condition is over: one that comes and goes fills no log.
    logged: LogThrottle,
    /// The log has its beginning, and so gets its end.
    is_logged: bool,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        let is_occurrence = self.condition.kind.effect() == Effect::Occurrence;
        self.is_over || is_occurrence && now.duration_since(self.last) >= OCCURRENCE_LIFETIME
    }
}

/// The conditions that hold now. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions(Arc<Mutex<BTreeMap<(ConditionKind, String), Entry>>>);

impl Conditions {
    /// Adds the condition, or counts it again. It is logged at once, and then at most once a minute; one that
    /// only degrades, when its detail changes.
    pub(crate) fn raise(&self, kind: ConditionKind, subject: &str, detail: impl Display) {
        self.add(kind, subject, detail.to_string(), true);
    }

    /// Like [`raise`](Self::raise), for a condition that is logged where it is noticed.
    pub(crate) fn record(&self, kind: ConditionKind, subject: &str, detail: impl Display) {
        self.add(kind, subject, detail.to_string(), false);
    }

    fn add(&self, kind: ConditionKind, subject: &str, detail: String, logs: bool) {
        let now = Instant::now();
        let mut entries = self.0.lock();
        let of_kind = entries.keys().filter(|(other, _)| *other == kind).count();
        let key = (kind, subject.to_owned());
        if of_kind >= MAX_SUBJECTS && !entries.contains_key(&key) {
            return;
        }
        let entry = entries.entry(key).or_insert_with(|| Entry {
            condition: Condition {
                kind,
                subject: subject.to_owned(),
                detail: String::new(),
                since: SystemTime::now(),
                count: 0,
            },
            last: now,
            is_over: false,
            logged: LogThrottle::default(),
            is_logged: false,
        });
        if entry.is_over(now) {
            (entry.is_over, entry.is_logged) = (false, false);
            (entry.condition.since, entry.condition.count) = (SystemTime::now(), 0);
        }
        let effect = kind.effect();
        let is_news = entry.condition.count == 0 || entry.condition.detail != detail;
        entry.condition.detail = detail;
        if effect == Effect::Occurrence || entry.condition.count == 0 {
            entry.condition.count += 1;
        }
        entry.last = now;
        // One that lasts for weeks fills no log.
        let is_due = is_news || effect != Effect::Degraded || !entry.is_logged;
        if logs && is_due && entry.logged.is_due() {
            log(&entry.condition);
            entry.is_logged = true;
        }
        entry.is_logged |= !logs;
    }

    /// Ends the condition, and logs that.
    pub(crate) fn clear(&self, kind: ConditionKind, subject: &str) {
        let mut entries = self.0.lock();
        let Some(entry) = entries.get_mut(&(kind, subject.to_owned())) else {
            return;
        };
        if !std::mem::replace(&mut entry.is_over, true) && entry.is_logged {
            let since = entry.condition.since;
            let seconds = since.elapsed().unwrap_or_default().as_secs();
            tracing::info!(condition = kind.name(), subject, seconds, "ConditionOver");
        }
    }

    /// Raises the condition with a detail, or clears it.
    pub(crate) fn set(&self, kind: ConditionKind, subject: &str, detail: Option<impl Display>) {
        match detail {
            Some(detail) => self.raise(kind, subject, detail),
            None => self.clear(kind, subject),
        }
    }

    /// Returns the conditions that hold now; those that prevent uploads are first.
    pub(crate) fn list(&self) -> Vec<Condition> {
        let now = Instant::now();
        let entries = self.0.lock();
        let lasting = entries.values().filter(|entry| !entry.is_over(now));
        lasting.map(|entry| entry.condition.clone()).collect()
    }
}

fn log(condition: &Condition) {
    let Condition { kind, count, .. } = condition;
    let (subject, detail) = (&condition.subject, &condition.detail);
    let (text, remedy, condition) = (kind.text(), kind.remedy(), kind.name());
    match kind.effect() {
        Effect::NotReady => {
            tracing::error!(condition, subject, detail, count, remedy, "{text}");
        }
        Effect::Degraded | Effect::Occurrence => {
            tracing::warn!(condition, subject, detail, count, remedy, "{text}");
        }
    }
}

/// A condition that a command finds on this machine, as the running server says it.
impl ConditionKind {
    pub(crate) fn finding(self, check: &'static str, detail: &str) -> Finding {
        let severity = match self.effect() {
            Effect::NotReady => Severity::Fail,
            Effect::Degraded | Effect::Occurrence => Severity::Warn,
        };
        let text = format!("{}: {detail}", self.text());
        Finding::new(check, severity, text).advise(self.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_and_texts_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for kind in ConditionKind::ALL {
            assert!(names.insert(kind.name()), "{kind:?}");
            for text in [kind.text(), kind.remedy()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
            }
        }
        // Those that prevent uploads are listed first.
        let effects = ConditionKind::ALL.iter().map(|kind| kind.effect());
        assert!(effects.is_sorted_by_key(|effect| effect != Effect::NotReady));
    }

    #[test]
    fn a_condition_is_counted_until_it_is_cleared() {
        let conditions = Conditions::default();
        conditions.raise(ConditionKind::DeadLetters, "http", 1);
        conditions.raise(ConditionKind::DeadLetters, "http", 2);
        conditions.raise(ConditionKind::UploadDirectoryMissing, "", "/srv");
        for detail in ["a", "b"] {
            conditions.raise(ConditionKind::AddressLimit, "", detail);
        }
        let list = conditions.list();
        let shown =
            |one: &Condition| (one.kind, one.subject.clone(), one.detail.clone(), one.count);
        assert_eq!(
            list.iter().map(shown).collect::<Vec<_>>(),
            [
                (
                    ConditionKind::UploadDirectoryMissing,
                    String::new(),
                    "/srv".into(),
                    1
                ),
                (ConditionKind::DeadLetters, "http".into(), "2".into(), 1),
                (ConditionKind::AddressLimit, String::new(), "b".into(), 2),
            ]
        );
        conditions.set(ConditionKind::DeadLetters, "http", None::<&str>);
        conditions.clear(ConditionKind::DeadLetters, "nats");
        assert_eq!(conditions.list().len(), 2);
    }

    /// One that comes and goes fills no log, and each end in the log has its beginning.
    #[test]
    fn an_end_is_logged_if_its_beginning_was() {
        let (conditions, kind) = (Conditions::default(), ConditionKind::BucketUnreachable);
        let is_logged = |kind| conditions.0.lock()[&(kind, String::new())].is_logged;
        conditions.raise(kind, "", "a");
        assert!(is_logged(kind));
        conditions.clear(kind, "");
        // Within a minute.
        conditions.raise(kind, "", "b");
        assert!(!is_logged(kind));
        conditions.clear(kind, "");
        conditions.record(ConditionKind::DeadLetters, "", 1);
        assert!(is_logged(ConditionKind::DeadLetters));
    }

    #[test]
    fn subjects_are_bounded() {
        let conditions = Conditions::default();
        for n in 0..2 * MAX_SUBJECTS {
            conditions.raise(ConditionKind::AddressLimit, &n.to_string(), "");
        }
        assert_eq!(conditions.list().len(), MAX_SUBJECTS);
    }

    #[test]
    fn a_finding_has_the_words_of_the_condition() {
        let finding = ConditionKind::DiskAlmostFull.finding("disk", "4 %");
        assert_eq!(finding.text, "less than 5 % of the disk is free: 4 %");
        assert_eq!(
            finding.remedy.as_deref(),
            Some(ConditionKind::DiskAlmostFull.remedy())
        );
    }
}
