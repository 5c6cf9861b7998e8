//! Settings of direct uploads.

use std::time::Duration;

use super::*;

#[test]
fn direct_uploads_require_a_bucket_and_enable_grants() {
    let given = loaded(&[], &[]).settings;
    assert!(!given.direct.enabled && !given.grants.enabled);
    assert_eq!(given.direct.key, "uploads/{id}/{filename}");
    assert!(given.direct.sts.is_none());
    let given = problem(&["-direct"]);
    assert!(given.starts_with("--direct: requires a bucket"), "{given}");
    for args in [&["-direct"][..], &["-direct", "-grants=false"]] {
        let given = loaded(&[args, &["-s3-bucket=b"]].concat(), &[]).settings;
        assert!(given.direct.enabled && given.grants.enabled);
    }
}

#[test]
fn other_clouds_lack_settings_of_s3() {
    for cloud in ["-gcs-bucket=b", "-azure-storage=b"] {
        let args = [cloud, "-direct", "-max-size=1GiB"];
        assert!(loaded(&args, &[]).settings.direct.enabled);
        let secret = "-direct-notifications-secret=0123456789abcdef";
        for args in ["-direct-sts=user", secret] {
            let given = problem(&[cloud, "-direct", args]);
            let flag = cloud.split('=').next().unwrap_or_default();
            let wanted = format!("works with S3 alone, not with -{flag}");
            assert!(given.contains(&wanted), "{given}");
        }
    }
}

#[test]
fn default_idle_timeout_is_that_of_tus_uploads_or_a_day() {
    let timeout = |args: &[&str]| loaded(args, &[]).settings.direct_idle_timeout();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(timeout(&[]), hours(24));
    assert_eq!(timeout(&["-expire-unfinished=2h"]), hours(2));
    assert_eq!(timeout(&["-expire-unfinished=0"]), hours(24));
}

/// Adds arguments to those that enable direct uploads.
fn with_direct<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["-s3-bucket=b", "-direct", "-max-size=1GiB"], args].concat()
}

#[test]
fn overlapping_paths_are_problems() {
    for (args, error) in [
        (
            &["-base-path=/s3/"][..],
            "--base-path: the path /s3 of direct uploads overlaps /s3/ of uploads",
        ),
        (
            &["-base-path=/api/uploads", "-direct-path=/"],
            "--direct-path: the path /api of direct uploads overlaps /api/uploads/ of uploads",
        ),
        (
            &["-grants-path=/api/jobs"],
            "--grants-path: the path /api/jobs of grants overlaps /api of direct uploads",
        ),
        (
            &["-direct-path=/uploadjobs/"],
            "--direct-path: the path /uploadjobs of grants overlaps /uploadjobs/api of direct uploads",
        ),
        (
            &["-admin-key=0123456789abcdef", "-admin-path=/t"],
            "--admin-path: the path /t of the dashboard overlaps",
        ),
        (
            &["-metrics-path=/api/metrics"],
            "--metrics-path: the path /api of direct uploads overlaps /api/metrics of metrics",
        ),
    ] {
        let found = problem(&with_direct(args));
        assert!(found.starts_with(error), "{args:?}: {found}");
    }
    for args in [
        &["-base-path=/"][..],
        &["-base-path=/api/uploads", "-direct-path=/direct"],
        &["-base-path=/team/"],
    ] {
        loaded(&with_direct(args), &[]);
    }
}

#[test]
fn possible_mistakes_cause_warnings() {
    let cases: [(&[&str], &str); 6] = [
        (
            &["-direct-url-lifetime=2m"],
            "--direct-url-lifetime: has no effect without --direct",
        ),
        (
            &["-s3-bucket=b", "-direct"],
            "--direct: the size of uploads is not limited",
        ),
        (
            &with_direct(&["-s3-headers=x-amz-acl: public-read"]),
            "--s3-headers: x-amz-acl: public-read makes direct uploads public",
        ),
        (
            &with_direct(&["-s3-key=uploads/{id}"]),
            "--s3-key: starts with the prefix of --direct-key, uploads/;",
        ),
        (
            &with_direct(&["-direct-key=u{id}", "-s3-key=uploads/{id}"]),
            "--s3-key: starts with the prefix of --direct-key, u;",
        ),
        (
            &with_direct(&["-lease-ttl=5s"]),
            "--lease-ttl: has no effect",
        ),
    ];
    for (args, error) in cases {
        let warnings = loaded(args, &[]).warnings;
        assert_eq!(warnings.len(), 1, "{args:?}: {warnings:?}");
        assert!(warnings[0].starts_with(error), "{args:?}: {warnings:?}");
    }
    for args in [&[][..], &["-s3-key={date}/{id}"], &["-direct-sts=user"]] {
        let warnings = loaded(&with_direct(args), &[]).warnings;
        assert_eq!(warnings, Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn temporary_credentials_may_have_a_role() {
    let arn = "arn:aws:iam::123456789012:role/uploads";
    let given = loaded(&with_direct(&[&format!("-direct-sts={arn}")]), &[]).settings;
    assert_eq!(given.direct.sts, Some(StsRole::Role(arn.to_owned())));
}

#[test]
fn notifications_secret_is_never_printed() {
    const SECRET: &str = "hunter2hunter2hunter2";
    let given = loaded(
        &with_direct(&[]),
        &[("LANDFALL_DIRECT_NOTIFICATIONS_SECRET", SECRET)],
    );
    let known = given.settings.direct.notifications_secret.as_ref().unwrap();
    assert_eq!(known.reveal(), SECRET);
    assert!(!format!("{given:?}").contains("hunter2"));
    assert!(!given.to_toml(false).contains("hunter2"));
}
