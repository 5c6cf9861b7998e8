//! Settings of direct uploads.

use std::time::Duration;

use super::*;

#[test]
fn they_go_with_grants_and_a_bucket() {
    let said = loaded(&[], &[]).settings;
    assert!(!said.direct.enabled && !said.grants.enabled);
    assert_eq!(said.direct.key, "uploads/{id}/{filename}");
    assert_eq!(said.direct.put_lifetime, Duration::from_secs(60));
    assert!(said.direct.signer && !said.direct.sts.enabled);
    let said = problem(&["-direct"]);
    assert!(said.starts_with("-direct: needs a bucket"), "{said}");
    for words in [&["-direct"][..], &["-direct", "-grants=false"]] {
        let said = loaded(&[words, &["-s3-bucket=b"]].concat(), &[]).settings;
        assert!(said.direct.enabled && said.grants.enabled);
    }
}

#[test]
fn patience_ends_with_that_for_others_or_after_a_day() {
    let patience = |words: &[&str]| loaded(words, &[]).settings.direct_idle_timeout();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(patience(&[]), hours(24));
    assert_eq!(patience(&["-expire-unfinished=2h"]), hours(2));
    assert_eq!(patience(&["-expire-unfinished=0"]), hours(24));
    let bucket = ["-s3-bucket=b", "-direct", "-max-size=1GB"];
    let longer = [&bucket[..], &["-direct-idle-timeout=72h"]].concat();
    assert_eq!(patience(&longer), hours(72));
}

/// What is said of these words beside those that turn direct uploads on.
fn with_direct<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["-s3-bucket=b", "-direct", "-max-size=1GiB"], words].concat()
}

#[test]
fn their_pages_have_places_of_their_own() {
    for (words, told) in [
        (
            &["-base-path=/s3/"][..],
            "-base-path: direct uploads can't be at /s3 beside uploads at /s3/",
        ),
        (
            &["-base-path=/api/uploads", "-direct-path=/"],
            "-direct-path: direct uploads can't be at /api beside uploads at /api/uploads/",
        ),
        (
            &["-grants-path=/api/jobs"],
            "-grants-path: grants can't be at /api/jobs beside direct uploads at /api",
        ),
        (
            &["-direct-path=/uploadjobs/"],
            "-direct-path: grants can't be at /uploadjobs beside direct uploads at /uploadjobs/api",
        ),
        (
            &["-admin-key=0123456789abcdef", "-admin-path=/t"],
            "-admin-path: the dashboard can't be at /t",
        ),
        (
            &["-metrics-path=/api/metrics"],
            "-metrics-path: direct uploads can't be at /api beside metrics",
        ),
    ] {
        let found = problem(&with_direct(words));
        assert!(found.starts_with(told), "{words:?}: {found}");
    }
    for words in [
        &["-base-path=/"][..],
        &["-base-path=/api/uploads", "-direct-path=/direct"],
        &["-base-path=/team/"],
    ] {
        loaded(&with_direct(words), &[]);
    }
}

#[test]
fn what_may_not_be_meant_is_told() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["-direct-poll-interval=2m"],
            "-direct-poll-interval: has no effect without direct",
        ),
        (
            &["-s3-bucket=b", "-direct"],
            "-direct: whoever may upload may send as much as S3 takes",
        ),
        (
            &with_direct(&["-direct-sts-lifetime=2h"]),
            "-direct-sts-lifetime: has no effect without direct-sts",
        ),
        (
            &with_direct(&["-direct-acl=public-read"]),
            "-direct-acl: public-read shows everybody",
        ),
        (
            &with_direct(&["-s3-acl=public-read"]),
            "-s3-acl: public-read shows everybody",
        ),
        (
            &with_direct(&["-s3-key=uploads/{id}"]),
            "-s3-key: begins as --direct-key does, with uploads/;",
        ),
        (
            &with_direct(&["-direct-key=u{id}", "-s3-key=uploads/{id}"]),
            "-s3-key: begins as --direct-key does, with u;",
        ),
        (
            &with_direct(&["-lease-ttl=5s"]),
            "-lease-ttl: has no effect",
        ),
    ];
    for (words, told) in cases {
        let warnings = loaded(words, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{words:?}: {warnings:?}");
        assert!(warnings[0].starts_with(told), "{words:?}: {warnings:?}");
    }
    for words in [
        &[][..],
        &["-s3-key={date}/{id}"],
        &["-s3-acl=public-read", "-direct-acl=private"],
        &["-direct-sts", "-direct-sts-lifetime=2h"],
    ] {
        let warnings = loaded(&with_direct(words), &[]).warnings;
        assert_eq!(warnings, Vec::<String>::new(), "{words:?}");
    }
}

#[test]
fn texts_out_of_bounds_are_refused() {
    for word in [
        "-direct-key={id}",
        "-direct-key=",
        "-direct-url-lifetime=8d",
        "-direct-put-lifetime=500ms",
        "-direct-sts-lifetime=10m",
        "-direct-poll-interval=0",
        "-direct-small-files=get",
        "-direct-acl=everybody",
        "-direct-endpoint=files.example",
        "-direct-path=x y",
        "-direct-notifications-secret=short",
    ] {
        let told = problem(&with_direct(&[word]));
        let name = word.split('=').next().unwrap();
        assert!(told.starts_with(&format!("{name}: ")), "{word}: {told}");
    }
    let role = "-direct-sts-role=arn:aws:iam::123456789012:role/uploads";
    let told = problem(&with_direct(&[
        "-direct-sts",
        role,
        "-direct-sts-lifetime=13h",
    ]));
    assert!(told.starts_with("-direct-sts-lifetime: exceeds"), "{told}");
    let said = loaded(&with_direct(&["-direct-sts", role]), &[]).settings;
    assert_eq!(
        said.direct.sts.role.as_deref(),
        role.split_once('=').map(|(_, arn)| arn)
    );
    let both = [
        "-direct-notifications-secret=0123456789abcdef",
        "-direct-notifications-secret-file=/x",
    ];
    let told = problem(&with_direct(&both));
    assert!(
        told.starts_with("-direct-notifications-secret-file: can't go with"),
        "{told}"
    );
}

#[test]
fn the_secret_of_notifications_is_shown_nowhere() {
    const SECRET: &str = "hunter2hunter2hunter2";
    let said = loaded(
        &with_direct(&[]),
        &[("LANDFALL_DIRECT_NOTIFICATIONS_SECRET", SECRET)],
    );
    let known = said.settings.direct.events_secret.as_ref().unwrap();
    assert_eq!(known.reveal(), SECRET);
    assert!(!format!("{said:?}").contains("hunter2"));
    assert!(!said.to_toml().contains("hunter2"));
}
