//! Renewal by the process with the lease; the others follow.

use std::time::{Duration, SystemTime};

use landfall_http::Tls;
use tokio::time::{Instant, sleep, timeout};

use crate::certificate::{self, Certificate};
use crate::challenge::ChallengeMethod;
use crate::error::{OrderError, is_problem};
use crate::order::Orders;
use crate::schedule;
use crate::store::{CertificateStore as _, OrderLease, POLL_INTERVAL, StoreError, Stored, Value};
use crate::{Acme, AcmeStats};

/// Longer than all requests and polls of an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);

/// The state of renewal in this process.
pub(crate) struct Renewal<'a> {
    acme: &'a Acme,
    tls: &'a Tls,
    failures: u32,
    /// Since the last order that succeeded: orders whose nonces were rejected, which do not count as failures.
    repeated_at_once: u32,
    /// The index of the challenge type that succeeded last, or is next.
    method: usize,
    retry_at: Option<Instant>,
    /// Orders that succeeded, each within a day after another.
    recent_orders: u32,
    last_order: Option<Instant>,
    suggestion: Option<Suggestion>,
    was_damaged: bool,
}

/// The renewal time of one certificate (ARI), or its absence.
struct Suggestion {
    expires: SystemTime,
    at: Option<SystemTime>,
    ask_again: Instant,
    /// The same within the window for one certificate, however often it is requested.
    random: f64,
}

impl<'a> Renewal<'a> {
    pub(crate) fn new(acme: &'a Acme, tls: &'a Tls) -> Self {
        Self {
            acme,
            tls,
            failures: 0,
            repeated_at_once: 0,
            method: 0,
            retry_at: None,
            recent_orders: 0,
            last_order: None,
            suggestion: None,
            was_damaged: false,
        }
    }

    /// Uses the certificate and the challenges of the process with the lease.
    pub(crate) async fn follow(&mut self) -> Result<(), StoreError> {
        let stored = self.acme.store.get().await?;
        if let Err(error) = self.acme.challenges.replace(&stored.challenges) {
            tracing::error!(error, "failed to answer ACME challenges of another node");
        }
        self.use_certificate(&stored).await
    }

    /// Orders certificates when they are due, until the lease is lost.
    pub(crate) async fn lead(&mut self, lease: &dyn OrderLease) -> Result<(), StoreError> {
        let acme = self.acme;
        let orders = Orders { acme, lease };
        // Of a process that died. The write also rejects those of earlier leases.
        lease.store(Value::Challenges(&[])).await?;
        while lease.is_held() {
            let mut stored = acme.store.get().await?;
            self.restore(&mut stored, lease).await?;
            self.use_certificate(&stored).await?;
            let may_try = self.retry_at.is_none_or(|at| at <= Instant::now());
            if may_try {
                let certificate = self.certificate().await;
                if self.is_due(&orders, &stored, certificate.as_ref()).await && lease.is_held() {
                    self.order(&orders, &stored, certificate).await?;
                }
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Copies account and certificate to a shared store that has none.
    ///
    /// The service may have lost its data, or this server was the only node until now.
    async fn restore(
        &mut self,
        stored: &mut Stored,
        lease: &dyn OrderLease,
    ) -> Result<(), StoreError> {
        let is_complete = stored.account.is_some() && stored.certificate.is_some();
        if is_complete || !self.acme.store.is_shared() {
            return Ok(());
        }
        let own = self.acme.folder.get().await?;
        if let (None, Some(account)) = (&stored.account, own.account) {
            lease.store(Value::Account(&account)).await?;
            stored.account = Some(account);
        }
        if let (None, Some(pem)) = (&stored.certificate, own.certificate)
            // Other nodes may have a better one than an expired one.
            && let Some(found) = self.certificate().await
            && found.is_for(&self.acme.settings.names, SystemTime::now())
        {
            lease.store(Value::Certificate(&pem)).await?;
            stored.certificate = Some(pem);
        }
        Ok(())
    }

    /// Copies account and certificate from a shared store, and gives a new certificate to the server.
    async fn use_certificate(&mut self, stored: &Stored) -> Result<(), StoreError> {
        let folder = &self.acme.folder;
        if self.acme.store.is_shared() {
            let own = folder.get().await?;
            if let Some(account) = &stored.account
                && own.account.as_ref() != Some(account)
            {
                folder.store(Value::Account(account)).await?;
            }
            if let Some(pem) = &stored.certificate
                && own.certificate.as_ref() != Some(pem)
            {
                certificate::check(pem, &[]).map_err(StoreError::Certificate)?;
                folder.store(Value::Certificate(pem)).await?;
            }
        }
        let tls = self.tls.clone();
        let reloaded = tokio::task::spawn_blocking(move || tls.reload_changed_files()).await;
        match reloaded {
            Ok(Ok(true)) => {
                let expires = self.tls.config().expires().map(httpdate::fmt_http_date);
                tracing::info!(expires, "certificate in use");
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "certificate not used; the earlier one stays in force");
            }
            Ok(Ok(false)) | Err(_) => {}
        }
        Ok(())
    }

    /// `None` if there is none that can be used.
    async fn certificate(&mut self) -> Option<Certificate> {
        let files = self.acme.folder.certificate_files();
        let exists = files.chain.exists();
        let read = tokio::task::spawn_blocking(move || Certificate::read(&files)).await;
        match read {
            Ok(Ok(certificate)) => Some(certificate),
            Ok(Err(error)) if exists && !self.was_damaged => {
                self.was_damaged = true;
                tracing::error!(
                    error,
                    "the stored certificate is damaged; ordering another one"
                );
                None
            }
            _ => None,
        }
    }

    async fn is_due(
        &mut self,
        orders: &Orders<'_>,
        stored: &Stored,
        certificate: Option<&Certificate>,
    ) -> bool {
        let now = SystemTime::now();
        let names = &self.acme.settings.names;
        let Some(certificate) = certificate.filter(|found| found.is_for(names, now)) else {
            return true;
        };
        let summary = &certificate.summary;
        let default = schedule::default_renewal(summary.starts, summary.expires);
        self.ask_authority(orders, stored, certificate, default)
            .await;
        let suggested = self.suggestion.as_ref().and_then(|found| found.at);
        suggested.unwrap_or(default) <= now
    }

    /// Requests the renewal time (ARI, RFC 9773) of a certificate, at the intervals that the authority names.
    async fn ask_authority(
        &mut self,
        orders: &Orders<'_>,
        stored: &Stored,
        certificate: &Certificate,
        default: SystemTime,
    ) {
        let expires = certificate.summary.expires;
        self.suggestion.take_if(|found| found.expires != expires);
        let (at, random) = match &self.suggestion {
            Some(found) if Instant::now() < found.ask_again => return,
            Some(found) => (found.at, found.random),
            None => (None, rand::random()),
        };
        let mut suggestion = Suggestion {
            expires,
            at,
            ask_again: Instant::now() + schedule::RENEWAL_INFO_RETRY,
            random,
        };
        match window(orders, stored, certificate).await {
            Ok(Some(([start, end], retry_after))) => {
                suggestion.at = Some(schedule::suggested_renewal(start, end, random));
                let interval = schedule::renewal_info_interval(retry_after);
                suggestion.ask_again = Instant::now() + interval;
            }
            Ok(None) => {}
            Err(error) => {
                let renewal = httpdate::fmt_http_date(suggestion.at.unwrap_or(default));
                tracing::warn!(
                    %error, renewal,
                    "the authority cannot be asked when to renew; the certificate stays in force"
                );
            }
        }
        self.suggestion = Some(suggestion);
    }

    async fn order(
        &mut self,
        orders: &Orders<'_>,
        stored: &Stored,
        replaced: Option<Certificate>,
    ) -> Result<(), StoreError> {
        let settings = &self.acme.settings;
        let names = settings.names.join(",");
        let method = self.method();
        let is_renewal = self.tls.config().expires().is_some();
        tracing::info!(names, method = method.name(), "ordering a certificate");
        // Only an authority with renewal information knows the field, and it may be why an order failed.
        let mut suggestions = self.suggestion.iter();
        let can_replace = self.failures == 0 && suggestions.any(|found| found.at.is_some());
        let replaces = replaced.and_then(|found| found.id);
        let replaces = replaces.filter(|_| can_replace);
        let order = orders.order(stored, method, replaces);
        let ordered = timeout(ORDER_TIMEOUT, order).await;
        if let Err(error) = orders.publish(&[]).await {
            tracing::warn!(%error, "failed to remove ACME challenges; the next order replaces them");
        }
        let ordered = match ordered.unwrap_or(Err(OrderError::Timeout)) {
            Ok(pem) => self.store(&pem, orders.lease).await,
            Err(error) => Err(error),
        };
        let Err(error) = ordered else {
            AcmeStats::record(&self.acme.stats.last_success);
            let now = Instant::now();
            let last = self.last_order.replace(now);
            if last.is_none_or(|last| now - last >= schedule::RECENT) {
                self.recent_orders = 0;
            }
            self.recent_orders = self.recent_orders.saturating_add(1);
            self.failures = 0;
            self.repeated_at_once = 0;
            self.retry_at = Some(now + schedule::pause(self.recent_orders));
            return Ok(());
        };
        AcmeStats::record(&self.acme.stats.last_failure);
        let delay = if let OrderError::Rejected(problem) = &error
            && is_problem(problem, "badNonce")
            && self.repeated_at_once < schedule::NONCE_REPETITIONS
        {
            self.repeated_at_once += 1;
            schedule::NEXT_ATTEMPT
        } else {
            self.failures = self.failures.saturating_add(1);
            schedule::retry_delay(
                self.failures,
                u32::try_from(settings.methods.len()).unwrap_or(1),
                error.is_validation(),
                self.acme.client.take_retry_after(),
                rand::random(),
            )
        };
        if error.is_validation() {
            self.method += 1;
        }
        self.retry_at = Some(Instant::now() + delay);
        let next_attempt_seconds = delay.as_secs();
        let event = match is_renewal {
            true => "certificate not renewed; the earlier one stays in force",
            false => "certificate not obtained; TLS handshakes fail until one is",
        };
        tracing::error!(%error, names, next_attempt_seconds, "{event}");
        Ok(())
    }

    /// Stores a certificate that a server can use, and gives it to this one.
    async fn store(&mut self, pem: &str, lease: &dyn OrderLease) -> Result<(), OrderError> {
        certificate::check(pem, &self.acme.settings.names).map_err(OrderError::Certificate)?;
        lease.store(Value::Certificate(pem)).await?;
        self.was_damaged = false;
        let stored = Stored {
            certificate: Some(pem.to_owned()),
            ..Stored::default()
        };
        Ok(self.use_certificate(&stored).await?)
    }

    fn method(&self) -> ChallengeMethod {
        let methods = &self.acme.settings.methods;
        let method = methods.get(self.method % methods.len().max(1));
        method.copied().unwrap_or(ChallengeMethod::TlsAlpn01)
    }
}

/// `None` if the authority or the certificate has no renewal information.
async fn window(
    orders: &Orders<'_>,
    stored: &Stored,
    certificate: &Certificate,
) -> Result<Option<([SystemTime; 2], Duration)>, OrderError> {
    let Some(id) = &certificate.id else {
        return Ok(None);
    };
    let account = orders.account(stored).await?;
    match account.renewal_info(id).await {
        Ok((info, retry_after)) => {
            let window = &info.suggested_window;
            let window = [window.start, window.end].map(|time| {
                let seconds = u64::try_from(time.unix_timestamp()).unwrap_or(0);
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            });
            Ok(Some((window, retry_after)))
        }
        Err(instant_acme::Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
