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
            "false" | "true" => Kind::Switch,
            _ => Kind::List("VALUE"),
        }
    }

    /// An empty text is not: it is usually a mistake.
    pub(super) fn is_default(&self, text: &str) -> bool {
        match self.kind() {
            _ if self.default == ANY => !text.is_empty(),
            Kind::Switch => value::boolean(text) == value::boolean(self.default),
            _ => !self.default.is_empty() && text.trim() == self.default,
        }
    }
}

pub(super) fn unsupported(name: &str) -> Option<UnsupportedFlag> {
    all().find(|flag| flag.name == name)
}

pub(super) fn all() -> impl Iterator<Item = UnsupportedFlag> {
    let groups = FLAGS.lines().filter_map(|line| line.split_once(": "));
    groups.flat_map(|(flags, reason)| {
        flags.split(' ').map(move |flag| {
            let (name, default) = flag.split_once('=').unwrap_or((flag, ""));
            UnsupportedFlag {
                name,
                default,
                reason,
            }
        })
    })
}

/// Instead of a default: each value is accepted, because none has an effect.
const ANY: &str = "*";

/// A line each: flags with their defaults, and the reason. The defaults `false` and `true` mark switches.
const FLAGS: &str = "\
hooks-plugin: Go plugins are not supported; move the code into a command for --hooks-dir, or behind \
    --hooks-grpc or --hooks-http
hooks-wasm hooks-wasm-events hooks-wasm-fuel hooks-wasm-memory: removed: WebAssembly plugins are not \
    supported; move the code into a command for --hooks-dir, or behind --hooks-grpc or --hooks-http
acme-ca: removed; add the authority to the certificates of this system, or name its file in \
    SSL_CERT_FILE
acme-email: removed: Let's Encrypt no longer keeps addresses; leave it out, and watch \
    landfall_tls_certificate_expires_timestamp_seconds
admin-key-file: removed; name the file in the variable LANDFALL_ADMIN_KEY_FILE
direct-idle-timeout: removed; write --expire-unfinished, which applies up to one day
direct-notifications-secret-file: removed; name the file in the variable \
    LANDFALL_DIRECT_NOTIFICATIONS_SECRET_FILE
direct-sign-requests=true: removed: requests are always signed for keys of the principal; leave it out
direct-overwrite=false: removed: a PUT whose If-None-Match is signed replaces no object; leave it out
direct-put-lifetime: removed: a PUT of /api/sign_s3 must start within 60s; leave it out
direct-sts-endpoint: removed; set the variable AWS_ENDPOINT_URL_STS
direct-sts-lifetime: removed: credentials are valid for an hour; leave it out
direct-sts-role: removed; write --direct-sts with the ARN of the role
disable-unfinished-download=false: removed; write --disable-download=unfinished
events-dead-letter-retention grants-retention: removed; write --retention, which is for finished jobs \
    and dead letters
events-max-bytes events-max-queued: removed: at most 1,000,000 events of 1GiB are stored; leave it out
events-strict-order=false: removed; write --events-max-hold strict
expire-orphans: removed: orphans are deleted after an hour, by landfall sweep after \
    --expire-unfinished if it is shorter; leave it out
grants-forward-auth-cache: removed: responses are cached for 5s; leave it out
grants-jwt-limits: removed: limits are in the claim landfall; leave it out
grants-quota-period: removed; write the time after --grants-quota, as in 100GiB/24h
header-timeout: removed; write --network-timeout: a head has a quarter of it, at least 15s
hooks-amqp hooks-kafka hooks-nats hooks-redis: removed; write --hooks-broker with a URL that begins with \
    amqp://, kafka://, nats:// or redis://
hooks-amqp-events hooks-kafka-events hooks-nats-events hooks-redis-events: removed; write \
    --hooks-enabled-events with broker: before each name
hooks-dir-events hooks-grpc-events hooks-http-events: removed; write --hooks-enabled-events with dir:, \
    grpc: or http: before each name
hooks-amqp-exchange hooks-broker-exchange: removed; write ?exchange=NAME at the end of the URL in --hooks-broker
hooks-amqp-routing-key hooks-kafka-topic hooks-nats-subject hooks-redis-stream hooks-broker-destination: removed; \
    write ?subject=NAME, ?routing_key=NAME, ?stream=NAME or ?topic=NAME at the end of the URL in --hooks-broker
hooks-nats-jetstream=false hooks-broker-jetstream=false: removed; write ?jetstream=true at the end of the URL in \
    --hooks-broker
hooks-redis-max-length hooks-broker-max-length: removed; write ?max_length=COUNT at the end of the URL in \
    --hooks-broker
hooks-dir-format hooks-http-format: removed; write --hooks-format, which is for programs and HTTP hooks
hooks-dir-max-processes hooks-http-max-concurrency: removed; write --hooks-max-concurrency; \
    programs have half of it
hooks-http-follow-redirects=false hooks-http-redirect-allow: removed; write --hooks-http-redirects \
    public, or with networks in addition
max-header-size: removed: heads may have 1MiB, and all large ones together 64MiB; leave it out
max-uploads-per-address max-downloads-per-address: removed; write --max-connections-per-address, which \
    also limits downloads, and uploads to half of it
otlp-endpoint: removed; set the variable OTEL_EXPORTER_OTLP_ENDPOINT
relative-location=false: removed; write --public-url relative
s3-max-buffered-parts=*: accepted without effect: parts are never buffered on disk, and \
    --max-buffered-bytes limits those in memory
s3-memory: removed; write --max-buffered-bytes
s3-redirect-lifetime: removed: the URL of a redirect is valid for 15 minutes; leave it out
s3-acl s3-cache-control s3-content-disposition s3-content-type s3-storage-class s3-tags direct-acl: removed; \
    write --s3-headers, as in Cache-Control: no-store, x-amz-acl: private, x-amz-tagging: KEY=VALUE&KEY=VALUE
s3-sse s3-sse-kms-key-id: removed; write --s3-headers with x-amz-server-side-encryption: aws:kms, \
    x-amz-server-side-encryption-aws-kms-key-id: KEY
expose-pprof=false pprof-path=/debug/pprof/ pprof-block-profile-rate=0 pprof-mutex-profile-rate=0 \
    cpuprofile: Go's profiler is not available; see the metrics at /metrics
store-size=0: removed, as in tusd 1.0: there is no limit for all uploads together; use a disk quota, and \
    --max-size for each upload
";

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
        let sign = unsupported("direct-sign-requests").unwrap();
        assert!(sign.kind() == Kind::Switch && sign.is_default("1") && !sign.is_default("0"));
        let parts = unsupported("s3-max-buffered-parts").unwrap();
        assert!(parts.is_default("5") && !parts.is_default(""));
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
