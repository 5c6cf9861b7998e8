//! Checks that an upload whose length is declared late is reported as if the length had been known before.

use std::time::Duration;

use landfall::Config;

use super::{assert_content, client, open};
use crate::test_data;

const LENGTH: u64 = 60_000;

pub(super) async fn a_late_length_leads_to_the_fields_of_an_early_one(config: &Config) {
    let mut config = config.clone();
    config.lifetimes.unfinished = Some(Duration::from_secs(3600));
    config.lifetimes.finished = None;
    let (handler, other) = (open(&config), open(&config));
    let bytes = test_data::bytes(1, LENGTH as usize);
    let third = LENGTH as usize / 3;
    for declared in [0, 1, 3] {
        let id = client::create_deferred(&handler).await;
        for step in 0..4_usize {
            let state = client::head(&other, &id).await.expect(200).state();
            let offset = (step * third) as u64;
            let length = match step > declared {
                true => ("upload-length", LENGTH.to_string()),
                false => ("upload-defer-length", "1".to_owned()),
            };
            let expires = ("upload-expires", "some time".to_owned());
            let mut wanted = vec![("upload-offset", offset.to_string()), length];
            let is_complete = step > declared && offset == LENGTH;
            wanted.extend((!is_complete).then_some(expires));
            assert_eq!(state, wanted, "declared at {declared}, step {step}");
            let end = bytes.len().min((step + 1) * third);
            let piece = bytes.slice(step * third..end);
            if piece.is_empty() && declared != step {
                continue;
            }
            let whole = (step == declared).then_some(LENGTH);
            let length = piece.len() as u64;
            let body = client::body(piece);
            let sent = client::append_declaring(&handler, &id, offset, length, whole, body);
            let sent = sent.await.expect(204);
            assert_eq!(sent.number("upload-offset"), Some(end as u64));
        }
        let state = client::head(&other, &id).await.expect(200).state();
        let wanted = [
            ("upload-offset", LENGTH.to_string()),
            ("upload-length", LENGTH.to_string()),
        ];
        assert_eq!(state, wanted, "declared at {declared}");
        assert_content(&config, &other, &id, &bytes).await;
    }
}
