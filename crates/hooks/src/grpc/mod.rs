//! gRPC hooks: tusd's service, with Landfall's additions in fields that others ignore.
//!
//! The service is defined in `proto/hook.proto`. `proto/generate` generates the Rust code, which is
//! committed.

mod connect;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[rustfmt::skip]
#[allow(unreachable_pub, missing_docs, clippy::all, reason = "generated")]
mod generated;
mod channel;
mod metadata;
mod settings;
mod translate;

use std::{fmt, time::Duration};

use crate::{DeliveryError, EventHeaders, HookResponse, Message, Transport};
use async_trait::async_trait;
use tokio::{sync::Semaphore, time};
use tonic::{Code, Request, Status};

use self::{
    channel::H2Channel,
    connect::{Connector, Target},
    generated::{self as proto, hook_handler_client::HookHandlerClient},
    metadata::ForwardedHeaders,
};

pub use self::settings::GrpcSettings;
use crate::SettingsError;
pub use landfall_net::Proxies;

/// The default of gRPC servers.
const MAX_MESSAGE_SIZE: usize = 4 << 20;
/// Spelled like this in tusd's library.
const ATTEMPT_METADATA: &str = "x-retry-attempty";
/// The longest that gRPC can encode, more than 11,000 years.
const MAX_TIMEOUT: Duration = Duration::from_secs(99_999_999 * 3600);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends messages to a gRPC server.
///
/// It connects for the first message, and again when the connection is lost. All calls share one
/// connection.
pub struct Grpc {
    client: HookHandlerClient<H2Channel>,
    connector: Connector,
    forward: ForwardedHeaders,
    event_headers: EventHeaders,
    calls: Semaphore,
    attempts: u32,
    backoff: Duration,
    timeout: Option<Duration>,
}

impl Grpc {
    /// Reads the certificates and creates the transport. It connects for the first message.
    ///
    /// # Errors
    /// The target is invalid, or a certificate or key file is missing or invalid.
    pub fn new(settings: GrpcSettings) -> Result<Self, SettingsError> {
        let target = Target::new(&settings.target, settings.secure)?;
        let origin = target.origin();
        let connector = Connector::new(target, &settings)?;
        let timeout = settings.timeout.map(|timeout| timeout.min(MAX_TIMEOUT));
        let channel = H2Channel::new(connector.clone(), timeout);
        let client = HookHandlerClient::with_origin(channel, origin)
            .max_decoding_message_size(MAX_MESSAGE_SIZE)
            .max_encoding_message_size(MAX_MESSAGE_SIZE);
        Ok(Self {
            client,
            connector,
            forward: ForwardedHeaders::new(&settings.forward_headers),
            event_headers: EventHeaders::default().with(&settings.forward_headers),
            calls: Semaphore::new(settings.max_concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            attempts: settings.attempts.max(1),
            backoff: settings.backoff,
            timeout,
        })
    }

    async fn call(
        &self,
        request: Request<proto::HookRequest>,
    ) -> Result<proto::HookResponse, Status> {
        let mut client = self.client.clone();
        let (response, late) = (
            client.invoke_hook(request),
            "the server did not respond in time",
        );
        let response = within(self.timeout, response, late).await??;
        Ok(response.into_inner())
    }

    fn request(&self, message: &Message, attempt: u32) -> Request<proto::HookRequest> {
        let mut request = Request::new(translate::request(message));
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        self.forward.apply(&message.request, request.metadata_mut());
        for (name, value) in message.trace_headers() {
            if let Ok(value) = value.parse() {
                request.metadata_mut().insert(name, value);
            }
        }
        if attempt > 0 {
            let metadata = request.metadata_mut();
            metadata.insert(ATTEMPT_METADATA, attempt.into());
        }
        request
    }
}

#[async_trait]
impl Transport for Grpc {
    fn name(&self) -> &str {
        "grpc"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let late = "too many calls are waiting";
        let permit = within(self.timeout, self.calls.acquire(), late);
        // The semaphore is never closed.
        let _permit = permit.await.map_err(failure)?;
        let mut attempt = 0;
        loop {
            match self.call(self.request(message, attempt)).await {
                Ok(response) => {
                    return translate::response(response).map_err(DeliveryError::new);
                }
                Err(status) if is_retryable(status.code()) && attempt + 1 < self.attempts => {
                    attempt += 1;
                    tracing::debug!(hook = %message.hook, %status, attempt, "retrying a call");
                    time::sleep(self.backoff).await;
                }
                Err(status) => return Err(failure(status)),
            }
        }
    }

    fn event_headers(&self) -> EventHeaders {
        self.event_headers.clone()
    }

    async fn check(&self) -> Result<(), DeliveryError> {
        let (limit, late) = (Some(CHECK_TIMEOUT), "timed out connecting");
        let opened = within(limit, self.connector.open(), late).await;
        match opened.map_err(failure)? {
            Ok(_) => Ok(()),
            Err(error) => Err(DeliveryError::with_source(error.to_string(), error)),
        }
    }
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc")
            .field("target", &self.connector.target)
            .field("attempts", &self.attempts)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

async fn within<F: Future>(
    limit: Option<Duration>,
    future: F,
    late: &'static str,
) -> Result<F::Output, Status> {
    match limit {
        Some(limit) => time::timeout(limit, future)
            .await
            .map_err(|_| Status::deadline_exceeded(late)),
        None => Ok(future.await),
    }
}

/// tusd retries only these two codes.
fn is_retryable(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::Unavailable)
}

/// These correspond to 4xx statuses of HTTP.
fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

fn failure(status: Status) -> DeliveryError {
    let code = status.code();
    let text = format!("gRPC {code:?}: {}", status.message());
    DeliveryError::with_source(text, status).permanent(is_permanent(code))
}
