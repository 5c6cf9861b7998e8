//! Policies.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::{Request, StatusCode, request::Parts};
use landfall_state::queue::{
    GrantLimits, NewJob, Principal,
    policy::{Policy, PolicyDenial, decide},
};

fn request() -> Parts {
    Request::post("/uploadjobs")
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn ask(size: Option<u64>, kind: Option<&str>) -> NewJob {
    let mut ask = NewJob::new("ann", "1", "a.png");
    ask.size = size;
    ask.filetype = kind.map(str::to_owned);
    ask
}

fn limits(max_size: Option<u64>, types: &[&str]) -> GrantLimits {
    GrantLimits {
        max_size,
        allowed_types: types.iter().map(ToString::to_string).collect(),
        ..GrantLimits::default()
    }
}

/// A policy that stores its requests.
#[derive(Debug)]
struct Told {
    seen: Mutex<Vec<NewJob>>,
    leaves: Option<GrantLimits>,
    says: Result<(), PolicyDenial>,
}

impl Told {
    fn new(leaves: Option<GrantLimits>, says: Result<(), PolicyDenial>) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            leaves,
            says,
        })
    }

    fn seen(&self) -> Vec<NewJob> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Policy for Told {
    async fn decide(
        &self,
        _caller: &Principal,
        ask: &mut NewJob,
        _request: &Parts,
    ) -> Result<(), PolicyDenial> {
        self.seen.lock().unwrap().push(ask.clone());
        if let Some(leaves) = &self.leaves {
            ask.limits = leaves.clone();
            ask.metadata.insert("seen".into(), true.into());
        }
        self.says.clone()
    }
}

#[tokio::test]
async fn limits_of_all_hold_together() {
    let mut principal = Principal::new("ann");
    principal.limits = limits(Some(100), &["image/*"]);
    principal.limits.max_active = Some(3);
    let rules: Arc<dyn Policy> = Arc::new(GrantLimits {
        quota: Some(1000),
        ..limits(Some(50), &["image/png", "text/plain"])
    });
    let hook = Told::new(None, Ok(()));
    let mut granted = ask(Some(50), Some("image/png; q=1"));
    decide(&[rules, hook.clone()], &principal, &mut granted, &request())
        .await
        .unwrap();
    let expected = GrantLimits {
        max_active: Some(3),
        quota: Some(1000),
        ..limits(Some(50), &["image/png"])
    };
    assert_eq!(granted.limits, expected);
    // The last one saw what the others left.
    assert_eq!(hook.seen()[0].limits, expected);
}

#[tokio::test]
async fn nobody_gives_more_than_the_others() {
    let generous = Told::new(Some(GrantLimits::default()), Ok(()));
    let policies: [Arc<dyn Policy>; 2] =
        [Arc::new(limits(Some(50), &["image/*"])), generous.clone()];
    let mut granted = ask(Some(50), Some("image/png"));
    let principal = Principal::new("ann");
    decide(&policies, &principal, &mut granted, &request())
        .await
        .unwrap();
    assert_eq!(granted.limits, limits(Some(50), &["image/*"]));
    assert_eq!(granted.metadata["seen"], true);
    // Restricted limits apply at once.
    let strict = Told::new(Some(limits(Some(10), &[])), Ok(()));
    let no = decide(&[strict], &principal, &mut ask(Some(11), None), &request()).await;
    assert_eq!(no.unwrap_err().field, Some("filesize"));
}

#[tokio::test]
async fn what_is_against_the_limits_bothers_no_one_else() {
    let hook = Told::new(None, Ok(()));
    let mut required = limits(Some(10), &["image/*", "text/plain"]);
    required.require_size = true;
    let policies: [Arc<dyn Policy>; 2] = [Arc::new(required), hook.clone()];
    let principal = Principal::new("ann");
    for (size, kind, field, said) in [
        (Some(11), Some("image/png"), "filesize", "11 bytes"),
        (None, Some("image/png"), "filesize", "is required"),
        (Some(1), None, "filetype", "is required"),
        (Some(1), Some("video/mp4"), "filetype", "\"video/mp4\""),
        (
            Some(1),
            Some("imagex/png"),
            "filetype",
            "image/*, text/plain",
        ),
        (Some(1), Some("text/plainer"), "filetype", "accepted"),
        // Browsers take the last type of a list.
        (
            Some(1),
            Some("text/plain;,text/html"),
            "filetype",
            "accepted",
        ),
        (Some(1), Some("image/png,text/html"), "filetype", "accepted"),
        (Some(1), Some("image/"), "filetype", "accepted"),
        (Some(1), Some("image/../html"), "filetype", "accepted"),
    ] {
        let mut asked = ask(size, kind);
        let no = decide(&policies, &principal, &mut asked, &request())
            .await
            .unwrap_err();
        assert_eq!(no.field, Some(field), "{no}");
        assert_eq!(no.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(no.message.contains(said), "{no}");
    }
    // The principal's own limits are checked first.
    let mut small = Principal::new("bob");
    small.limits = limits(Some(5), &[]);
    let mut asked = ask(Some(6), Some("image/png"));
    let no = decide(&policies, &small, &mut asked, &request())
        .await
        .unwrap_err();
    assert_eq!(no.field, Some("filesize"));
    assert!(hook.seen().is_empty());
    for size in [0, 10] {
        let mut asked = ask(Some(size), Some("IMAGE/PNG"));
        decide(&policies, &principal, &mut asked, &request())
            .await
            .unwrap();
    }
    assert_eq!(hook.seen().len(), 2);
}

#[tokio::test]
async fn the_first_no_counts() {
    let first = Told::new(None, Err(PolicyDenial::forbidden("not you")));
    let second = Told::new(None, Err(PolicyDenial::unavailable("unavailable")));
    let policies: [Arc<dyn Policy>; 2] = [first.clone(), second.clone()];
    let mut asked = ask(None, None);
    let no = decide(&policies, &Principal::new("ann"), &mut asked, &request()).await;
    assert_eq!(no, Err(PolicyDenial::forbidden("not you")));
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
    let no = decide(
        &policies[1..],
        &Principal::new("ann"),
        &mut asked,
        &request(),
    )
    .await;
    let no = no.unwrap_err();
    assert_eq!(no.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(no.retry_after.is_some());
    assert_eq!(
        decide(&[], &Principal::new("ann"), &mut asked, &request()).await,
        Ok(())
    );
}

#[tokio::test]
async fn without_limits_anything_goes() {
    let rules: Arc<dyn Policy> = Arc::new(GrantLimits::default());
    for asked in [
        ask(None, None),
        ask(Some(u64::MAX), Some("a/b")),
        ask(Some(0), None),
    ] {
        let mut granted = asked.clone();
        let policies = [rules.clone()];
        decide(&policies, &Principal::new("ann"), &mut granted, &request())
            .await
            .unwrap();
        assert_eq!(granted, asked);
    }
}
