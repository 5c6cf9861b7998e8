//! One order: an account, an authorization for each name, and the certificate (RFC 8555 section 7).

use std::time::Duration;

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, CertificateIdentifier,
    ChallengeType, Error, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};

use crate::Acme;
use crate::challenge::{Challenge, ChallengeMethod};
use crate::error::{OrderError, is_problem, problem_text};
use crate::store::{OrderLease, POLL_INTERVAL, Stored, Value};

/// For validations, and again for the certificate.
const POLL: RetryPolicy = RetryPolicy::new()
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// Orders of the process with the lease.
#[derive(Debug)]
pub(crate) struct Orders<'a> {
    pub(crate) acme: &'a Acme,
    pub(crate) lease: &'a dyn OrderLease,
}

impl Orders<'_> {
    /// Returns the stored account, or creates one. That agrees to the authority's terms of service.
    pub(crate) async fn account(&self, stored: &Stored) -> Result<Account, OrderError> {
        let account = stored.account.as_deref();
        match account.map(serde_json::from_str::<AccountCredentials>) {
            Some(Ok(credentials)) => {
                let builder = self.account_builder();
                Ok(builder.from_credentials(credentials).await?)
            }
            // The error might quote the key.
            Some(Err(_)) => {
                tracing::error!("the stored ACME account is damaged; creating another one");
                self.create_account().await
            }
            None => self.create_account().await,
        }
    }

    fn account_builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(self.acme.client.clone()))
    }

    async fn create_account(&self) -> Result<Account, OrderError> {
        let settings = &self.acme.settings;
        let account = NewAccount {
            contact: &[],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (builder, directory) = (self.account_builder(), settings.directory.clone());
        let (account, credentials) = builder.create(&account, directory, None).await?;
        let text = serde_json::to_string(&credentials);
        let text = text.map_err(|error| OrderError::Protocol(error.to_string()))?;
        // Before it is used, so that it is not lost.
        self.lease.store(Value::Account(&text)).await?;
        tracing::info!(url = account.id(), "ACME account created");
        Ok(account)
    }

    /// Obtains a certificate, and returns its chain and key in PEM. Its challenges remain.
    pub(crate) async fn order(
        &self,
        stored: &Stored,
        method: ChallengeMethod,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<String, OrderError> {
        let names = self.acme.settings.names.iter();
        let identifiers: Vec<_> = names.cloned().map(Identifier::Dns).collect();
        let mut account = self.account(stored).await?;
        let new = || NewOrder::new(&identifiers);
        let mut order = match replaces {
            Some(replaced) => account.new_order(&new().replaces(replaced)).await,
            None => account.new_order(&new()).await,
        };
        if let Err(Error::Api(problem)) = &order {
            if is_problem(problem, "accountDoesNotExist") {
                tracing::warn!(
                    "the authority does not know the ACME account; creating another one"
                );
                account = self.create_account().await?;
                order = account.new_order(&new()).await;
            } else if is_problem(problem, "alreadyReplaced") {
                order = account.new_order(&new()).await;
            }
        }
        let mut order = order?;
        self.validate(&mut order, method).await?;
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&POLL).await?;
        // The key last, so that a torn file is not usable.
        Ok(format!("{}\n{key}", chain.trim_end()))
    }

    async fn validate(&self, order: &mut Order, method: ChallengeMethod) -> Result<(), OrderError> {
        let challenges = pending_challenges(order, method).await?;
        if challenges.is_empty() {
            return Ok(());
        }
        self.publish(&challenges).await?;
        if self.acme.store.is_shared() {
            // The authority may reach any node, and each has to have read them.
            tokio::time::sleep(POLL_INTERVAL * 2).await;
        }
        let ended = match set_ready(order, method).await {
            Ok(()) => order.poll_ready(&POLL).await,
            // The request failed, or its response has the error of a validation that failed already.
            Err(error) => Err(error),
        };
        let error = match ended {
            Ok(OrderStatus::Invalid) => OrderError::Protocol("the order is invalid".to_owned()),
            Ok(_) => return Ok(()),
            Err(error) => error.into(),
        };
        Err(failure(order, method).await?.unwrap_or(error))
    }

    pub(crate) async fn publish(&self, challenges: &[Challenge]) -> Result<(), OrderError> {
        let replaced = self.acme.challenges.replace(challenges);
        replaced.map_err(OrderError::Protocol)?;
        Ok(self.lease.store(Value::Challenges(challenges)).await?)
    }
}

fn challenge_type(method: ChallengeMethod) -> ChallengeType {
    match method {
        ChallengeMethod::Http01 => ChallengeType::Http01,
        ChallengeMethod::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// Authorities remember validations for some time, so there may be none.
async fn pending_challenges(
    order: &mut Order,
    method: ChallengeMethod,
) -> Result<Vec<Challenge>, OrderError> {
    let mut challenges = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(challenge) = authorization.challenge(challenge_type(method)) else {
            return Err(OrderError::NoChallenge { name, method });
        };
        challenges.push(Challenge {
            name,
            token: challenge.token.clone(),
            key_authorization: challenge.key_authorization().as_str().to_owned(),
        });
    }
    Ok(challenges)
}

/// Requests the validation of all names.
async fn set_ready(order: &mut Order, method: ChallengeMethod) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(challenge_type(method))
        {
            challenge.set_ready().await?;
        }
    }
    Ok(())
}

/// Finds the challenge that failed. The order itself only says that one has.
async fn failure(order: &mut Order, method: ChallengeMethod) -> Result<Option<OrderError>, Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let state = authorization.refresh().await?;
        if let Some(problem) = state.challenges.iter().find_map(|it| it.error.as_ref()) {
            return Ok(Some(OrderError::Validation {
                name: state.identifier().to_string(),
                method,
                reason: problem_text(problem),
            }));
        }
    }
    Ok(None)
}
