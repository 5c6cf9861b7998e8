use std::time::{Duration, SystemTime};

use crate::{DirectSettings, Record, TransferMode};

/// Divides the check interval for the first check if no one reports the completion: most files are small.
const FIRST_DELAYS: u32 = 12;
/// A longer check interval overrides this.
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);

pub(super) fn first_check(
    settings: &DirectSettings,
    record: &Record,
    now: SystemTime,
) -> SystemTime {
    now + base(settings, record)
}

pub(super) fn first_delay(settings: &DirectSettings) -> Duration {
    settings.check_interval / FIRST_DELAYS
}

/// Less often while the upload is inactive, and at its expiry.
pub(super) fn schedule(settings: &DirectSettings, record: &mut Record, now: SystemTime) {
    let silent = now.duration_since(record.active_at).unwrap_or_default();
    let base = base(settings, record);
    let doublings = match is_reported(settings, record) && silent < 2 * base {
        true => 0,
        false => record.check_count.min(16),
    };
    let delay = base
        .saturating_mul(1 << doublings)
        .min(MAX_DELAY.max(settings.check_interval));
    record.check_count = doublings + 1;
    record.next_check_at = Some((now + delay).min(record.active_at + settings.idle_timeout));
}

/// The client reports here, or the bucket by notifications.
const fn is_reported(settings: &DirectSettings, record: &Record) -> bool {
    settings.has_notifications || matches!(record.mode, TransferMode::Multipart)
}

fn base(settings: &DirectSettings, record: &Record) -> Duration {
    match is_reported(settings, record) {
        true => settings.check_interval,
        false => first_delay(settings),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use landfall::upload::{Upload, UploadId};
    use landfall_queue::JobId;
    use landfall_s3::client::{Client, ClientSettings, CredentialSource, Credentials, ObjectRef};

    use super::*;

    /// Returns the check times of an upload that was opened at 0 and receives bytes until `active`,
    /// in seconds.
    async fn checks(
        mode: TransferMode,
        has_notifications: bool,
        active: u64,
        until: u64,
    ) -> Vec<u64> {
        let client = ClientSettings {
            endpoint: Some("http://localhost:1".into()),
            credentials: CredentialSource::Static(Credentials::new("a", "b")),
            ..ClientSettings::default()
        };
        let mut settings = DirectSettings::new(Client::new(client).unwrap(), "b");
        settings.has_notifications = has_notifications;
        let upload = Upload::new(UploadId::new("direct-1").unwrap(), None);
        let object = ObjectRef::new("b", "k");
        let mut record = Record::new(upload, JobId(1), "ann", mode, object, UNIX_EPOCH);
        let mut at = first_check(&settings, &record, UNIX_EPOCH);
        let mut times = Vec::new();
        // At its expiry it is removed.
        let over = |record: &Record| record.active_at + settings.idle_timeout;
        while at <= UNIX_EPOCH + Duration::from_secs(until) && times.len() < 1000 {
            let second = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
            times.push(second);
            if at >= over(&record) {
                break;
            }
            if second <= active {
                record.active_at = at;
                record.check_count = 0;
            }
            schedule(&settings, &mut record, at);
            at = record.next_check_at.unwrap();
        }
        times
    }

    #[tokio::test]
    async fn checks_become_rarer() {
        let of = async |mode, has_notifications, active| {
            checks(mode, has_notifications, active, 1200).await
        };
        let parts = of(TransferMode::Multipart, false, 180).await;
        assert_eq!(parts, [60, 120, 180, 240, 300, 420, 660, 960]);
        let whole = [5, 10, 20, 40, 80, 160, 320, 620, 920];
        assert_eq!(of(TransferMode::Put, false, 0).await, whole);
        assert_eq!(of(TransferMode::Post, false, 0).await, whole);
        let notified = of(TransferMode::Put, true, 0).await;
        assert_eq!(notified, [60, 120, 240, 480, 780, 1080]);
        // The last check is at its expiry.
        let day = 24 * 60 * 60;
        assert_eq!(
            checks(TransferMode::Put, true, 0, day).await.last(),
            Some(&day)
        );
    }
}
