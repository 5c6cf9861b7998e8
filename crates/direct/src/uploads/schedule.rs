//! When the sweeper checks an upload again.

use std::time::{Duration, SystemTime};

use crate::{DirectSettings, Record, Way};

/// The first delay where nobody reports that a file has arrived, as a part of the interval: most files
/// are small.
const FIRST_DELAYS: u32 = 12;
/// The longest time between two checks, if the interval is not longer.
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);

/// When an upload that was opened just now is checked first.
pub(super) fn first_check(
    settings: &DirectSettings,
    record: &Record,
    now: SystemTime,
) -> SystemTime {
    now + base(settings, record)
}

/// How soon an upload is checked whose client is about to complete it in S3.
pub(super) fn first_delay(settings: &DirectSettings) -> Duration {
    settings.interval / FIRST_DELAYS
}

/// Schedules the next check of an open upload: rarer the longer it is inactive, and at its expiry.
pub(super) fn schedule(settings: &DirectSettings, record: &mut Record, now: SystemTime) {
    let silent = now.duration_since(record.active_at).unwrap_or_default();
    let base = base(settings, record);
    let doublings = match is_reported(settings, record) && silent < 2 * base {
        true => 0,
        false => record.looks.min(16),
    };
    let delay = base
        .saturating_mul(1 << doublings)
        .min(MAX_DELAY.max(settings.interval));
    record.looks = doublings + 1;
    record.check_at = Some((now + delay).min(record.active_at + settings.patience));
}

/// Whether somebody reports the end of an upload: its client completes it here, or the bucket notifies.
const fn is_reported(settings: &DirectSettings, record: &Record) -> bool {
    settings.is_notified || matches!(record.way, Way::Multipart)
}

fn base(settings: &DirectSettings, record: &Record) -> Duration {
    match is_reported(settings, record) {
        true => settings.interval,
        false => first_delay(settings),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use landfall::upload::{Upload, UploadId};
    use landfall_grants::JobId;
    use landfall_s3::client::{Client, ClientSettings, CredentialSource, Credentials, ObjectRef};

    use super::*;

    /// When an upload is checked that has been opened at 0 and of which bytes arrive until `active`,
    /// in seconds.
    async fn checks(way: Way, is_notified: bool, active: u64, until: u64) -> Vec<u64> {
        let client = ClientSettings {
            endpoint: Some("http://localhost:1".into()),
            credentials: CredentialSource::Static(Credentials::new("a", "b")),
            ..ClientSettings::default()
        };
        let mut settings = DirectSettings::new(Client::new(client).unwrap(), "b");
        settings.is_notified = is_notified;
        let upload = Upload::new(UploadId::new("direct-1").unwrap(), None);
        let place = ObjectRef::new("b", "k");
        let mut record = Record::new(upload, JobId(1), "ann", way, place, UNIX_EPOCH);
        let mut at = first_check(&settings, &record, UNIX_EPOCH);
        let mut times = Vec::new();
        // At its expiry it is removed.
        let over = |record: &Record| record.active_at + settings.patience;
        while at <= UNIX_EPOCH + Duration::from_secs(until) && times.len() < 1000 {
            let second = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
            times.push(second);
            if at >= over(&record) {
                break;
            }
            if second <= active {
                record.active_at = at;
                record.looks = 0;
            }
            schedule(&settings, &mut record, at);
            at = record.check_at.unwrap();
        }
        times
    }

    #[tokio::test]
    async fn checks_become_rarer() {
        let of = async |way, is_notified, active| checks(way, is_notified, active, 1200).await;
        let parts = of(Way::Multipart, false, 180).await;
        assert_eq!(parts, [60, 120, 180, 240, 300, 420, 660, 960]);
        let whole = [5, 10, 20, 40, 80, 160, 320, 620, 920];
        assert_eq!(of(Way::Put, false, 0).await, whole);
        assert_eq!(of(Way::Post, false, 0).await, whole);
        let notified = of(Way::Put, true, 0).await;
        assert_eq!(notified, [60, 120, 240, 480, 780, 1080]);
        // At its expiry, whenever that is.
        let day = 24 * 60 * 60;
        assert_eq!(checks(Way::Put, true, 0, day).await.last(), Some(&day));
    }
}
