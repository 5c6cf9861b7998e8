//! Runs the checks in their order, a few at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::capabilities::Capabilities;
use crate::check::{Check, Group};
use crate::checks;
use crate::cleanup::{CleanupResult, remove_created};
use crate::client::{Client, ClientError, INTEROP_VERSION, Request};
use crate::context::Context;
use crate::dialect::{DraftCell, NEWEST};
use crate::options::Options;
use crate::requirement::{CheckResult, Finding, Protocol};

const CHAOS_FACTOR: u32 = 10;
/// The interop version that most servers accept: the newest one of tusd, and that of Apple's clients.
const WIDEST: u8 = 6;

/// The result of one check.
#[derive(Clone, Debug)]
pub struct CheckOutcome {
    /// The group of the check.
    pub group: &'static Group,
    /// The check.
    pub check: &'static Check,
    /// Passed, or the reason why not.
    pub result: CheckResult,
    /// The heads sent and received, if it failed.
    pub transcript: String,
    /// The time that it took.
    pub duration: Duration,
}

/// The results of all checks.
#[derive(Clone, Debug)]
pub struct Report {
    /// The URL that was checked.
    pub endpoint: String,
    /// The capabilities that the server reported.
    pub server: Capabilities,
    /// In the order of the table.
    pub outcomes: Vec<CheckOutcome>,
    /// What became of the uploads.
    pub cleanup: CleanupResult,
    /// The seed of random values.
    pub seed: u64,
}

/// Runs the checks that the options select. `stop` ends the run early; uploads are removed also then.
///
/// `observe` receives each result, in the order of the table, as soon as it and those before it are there.
///
/// # Errors
/// The server does not respond to OPTIONS.
///
/// # Cancel safety
/// Dropping the future leaves uploads on the server; cancel `stop` instead.
pub async fn run(
    options: Options,
    stop: &CancellationToken,
    mut observe: impl FnMut(&CheckOutcome),
) -> Result<Report, ClientError> {
    let options = Arc::new(options);
    let given = options.headers.clone();
    let client = Client::new(
        &options.endpoint,
        given,
        options.timeout,
        options.http_version,
    )?;
    let server = Arc::new(discover(&client, &options).await?);
    let draft = Arc::new(DraftCell::default());

    let stop = stop.child_token();
    let selected = checks::selected(&options, &server);
    let results = stream::iter(selected).map(|(group, check)| {
        let context = Context {
            options: Arc::clone(&options),
            server: Arc::clone(&server),
            client: client.fresh(),
            draft: Arc::clone(&draft),
            check_id: check.id,
        };
        let stop = stop.clone();
        async move { run_check(group, check, context, &stop).await }
    });
    let mut results = results.buffered(options.concurrency.max(1));
    let end = tokio::time::sleep(options.run_timeout);
    tokio::pin!(end);
    let mut outcomes = Vec::new();
    loop {
        tokio::select! {
            () = &mut end, if !stop.is_cancelled() => stop.cancel(),
            outcome = results.next() => match outcome {
                Some(outcome) => {
                    observe(&outcome);
                    outcomes.push(outcome);
                    if client.has_lost_server() {
                        stop.cancel();
                    }
                }
                None => break,
            },
        }
    }
    drop(results);
    Ok(Report {
        endpoint: options.endpoint.to_string(),
        cleanup: remove_created(&client, &server).await,
        server: server.as_ref().clone(),
        outcomes,
        seed: options.seed,
    })
}

async fn discover(client: &Client, options: &Options) -> Result<Capabilities, ClientError> {
    let request = Request::new("OPTIONS", &options.endpoint);
    let mut server = Capabilities::from_options(&client.send(&request).await?);
    if !server.protocols.contains(&Protocol::Draft) {
        // tusd shows the limits only to clients of a version that it accepts.
        let request = request.field(INTEROP_VERSION, WIDEST);
        let limits = client.send(&request).await?;
        let shown = Capabilities::from_options(&limits).protocols;
        server.protocols.extend(shown);
    }
    if let Some(protocols) = &options.protocols {
        server.protocols.clone_from(protocols);
        return Ok(server);
    }
    server.protocols.extend(&options.expected_protocols);
    if !server.protocols.contains(&Protocol::Draft) && creates_by_draft(client, options).await {
        // OPTIONS has to show the limits; its checks report that they are missing.
        server.protocols.insert(Protocol::Draft);
    }
    if server.protocols.is_empty() {
        // A server without a usable OPTIONS fails the checks of tus.
        server.protocols.insert(Protocol::Tus);
    }
    Ok(server)
}

/// Returns whether a creation of the draft gets a response with its fields: servers of tus may create an upload, too.
async fn creates_by_draft(client: &Client, options: &Options) -> bool {
    for version in [NEWEST, WIDEST] {
        let request = Request::new("POST", &options.endpoint)
            .field(INTEROP_VERSION, version)
            .field("Upload-Complete", "?0")
            .field("Upload-Length", 1)
            .body([]);
        let Ok(response) = client.send(&request).await else {
            return false;
        };
        let mut fields = [INTEROP_VERSION, "Upload-Complete", "Upload-Limit"].into_iter();
        if response.is_success() && fields.any(|name| response.field(name).is_some()) {
            return true;
        }
    }
    false
}

async fn run_check(
    group: &'static Group,
    check: &'static Check,
    context: Context,
    stop: &CancellationToken,
) -> CheckOutcome {
    let started = Instant::now();
    let limit = match group.is_chaos {
        true => context.options.check_timeout.saturating_mul(CHAOS_FACTOR),
        false => context.options.check_timeout,
    };
    let run = async {
        requirements(group, check, &context)?;
        let run = timeout(limit, (check.run)(&context)).await;
        run.unwrap_or_else(|_| Err(Finding::Error(format!("not finished in {limit:?}"))))
    };
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Finding::Error("the run was stopped".to_owned())),
        result = run => result,
    };
    let profile = context.options.profile;
    let reason = profile.and_then(|profile| profile.reason(check.id));
    let result = match (result, reason) {
        (Err(Finding::Failed(text)), Some(reason)) => {
            Err(Finding::Documented(format!("{text}; {reason}")))
        }
        (result, _) => result,
    };
    CheckOutcome {
        group,
        check,
        transcript: match &result {
            Err(Finding::Failed(_) | Finding::Error(_)) => context.client.transcript().text(),
            _ => String::new(),
        },
        result,
        duration: started.elapsed(),
    }
}

fn requirements(group: &Group, check: &Check, context: &Context) -> CheckResult {
    let mut needs = group.needs.iter().chain(check.needs);
    let Some(missing) = needs.find(|need| !context.server.has(**need)) else {
        return Ok(());
    };
    let text = format!("the server does not offer {}", missing.name());
    Err(match context.options.expected.contains(missing) {
        true => Finding::Failed(text),
        false => Finding::Skipped(text),
    })
}
