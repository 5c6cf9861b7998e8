//! The servers of a URL. Like libpq and unlike sqlx, it may have several hosts, or a user and no
//! host.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::time::timeout;

/// Of one server, so that a silent one delays the next little.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The servers in order. A later one is used while the earlier ones are down or read-only.
#[derive(Debug)]
pub(super) struct Hosts(Vec<PgConnectOptions>);

impl Hosts {
    pub(super) fn parse(url: &str) -> Result<Self, sqlx::Error> {
        let urls = urls(url).map_err(|reason| sqlx::Error::Configuration(reason.into()))?;
        let parse = |url: String| {
            let options = url.parse::<PgConnectOptions>()?;
            // PgBouncer rejects this parameter, and no value here is a float.
            Ok(options.extra_float_digits(None))
        };
        let hosts: Result<_, sqlx::Error> = urls.into_iter().map(parse).collect();
        Ok(Self(hosts?))
    }

    pub(super) fn first(&self) -> PgConnectOptions {
        self.0.first().cloned().unwrap_or_default()
    }

    pub(super) fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// Returns the first server that accepts connections and, if there are several, writes.
    ///
    /// # Errors
    /// The reason of each.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(super) async fn find(&self) -> Result<PgConnectOptions, String> {
        let mut reasons = Vec::new();
        for options in &self.0 {
            match self.test_in_time(options).await {
                Ok(()) => return Ok(options.clone()),
                Err(reason) if self.are_several() => {
                    let (host, port) = (options.get_host(), options.get_port());
                    reasons.push(format!("{host}:{port}: {reason}"));
                }
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    pub(super) async fn test_in_time(&self, options: &PgConnectOptions) -> Result<(), String> {
        let tested = timeout(CONNECT_TIMEOUT, self.test(options)).await;
        tested.unwrap_or_else(|_| Err("the server does not answer".to_owned()))
    }

    async fn test(&self, options: &PgConnectOptions) -> Result<(), String> {
        let text = |error: sqlx::Error| super::pool::message(&error);
        let connected = Box::pin(PgConnection::connect_with(options)).await;
        let mut connection = connected.map_err(text)?;
        if self.are_several() {
            let shown = sqlx::raw_sql("SHOW transaction_read_only");
            let row = connection.fetch_one(shown).await.map_err(text)?;
            let is_read_only: String = row.try_get(0).map_err(text)?;
            if is_read_only == "on" {
                return Err("it is read-only".to_owned());
            }
        }
        // Only politeness.
        let _ = connection.close().await;
        Ok(())
    }
}

/// Returns the URL of each host.
fn urls(url: &str) -> Result<Vec<String>, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok(vec![url.to_owned()]);
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match place.find('/') {
        Some(at) => place.split_at(at),
        None => (place, ""),
    };
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut parameters = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            // Landfall writes: of several servers it always needs the one that can.
            Some(("target_session_attrs", "any" | "read-write" | "primary")) => {}
            Some(("target_session_attrs", other)) => {
                return Err(format!(
                    "target_session_attrs={other} is not supported: use read-write"
                ));
            }
            _ => parameters.push(parameter.to_owned()),
        }
    }
    let hosts = hosts.split(',').map(|host| {
        let (mut before, mut parameters) = (String::new(), parameters.clone());
        if !host.is_empty() {
            before = match user {
                "" => host.to_owned(),
                user => format!("{user}@{host}"),
            };
        } else if !user.is_empty() {
            // A URL has no user without a host.
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            for (key, value) in [("user", name), ("password", password)] {
                if !value.is_empty() {
                    parameters.push(format!("{key}={}", value.replace('+', "%2B")));
                }
            }
        }
        let query = match parameters.is_empty() {
            true => String::new(),
            false => format!("?{}", parameters.join("&")),
        };
        format!("{scheme}://{before}{path}{query}")
    });
    Ok(hosts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_hosts() {
        for (url, expected) in [
            (
                "postgres://u:p@h:1/d?sslmode=disable",
                &["postgres://u:p@h:1/d?sslmode=disable"][..],
            ),
            ("postgres://h", &["postgres://h"]),
            (
                "postgresql://u@a:1,b,[::1]:2/d?target_session_attrs=read-write&sslmode=prefer",
                &[
                    "postgresql://u@a:1/d?sslmode=prefer",
                    "postgresql://u@b/d?sslmode=prefer",
                    "postgresql://u@[::1]:2/d?sslmode=prefer",
                ],
            ),
            ("postgres:///d?host=/run", &["postgres:///d?host=/run"]),
            (
                "postgres://u@/d?host=/run",
                &["postgres:///d?host=/run&user=u"],
            ),
            (
                "postgres://u:p%40+@/d",
                &["postgres:///d?user=u&password=p%40%2B"],
            ),
        ] {
            assert_eq!(urls(url).unwrap(), expected, "{url}");
        }
        let error = Hosts::parse("postgres://a,b/d?target_session_attrs=standby").unwrap_err();
        assert!(error.to_string().contains("read-write"), "{error}");
    }

    #[test]
    fn options_of_hosts() {
        let hosts = Hosts::parse("postgres://me@/d?host=/run/pg").unwrap();
        let options = hosts.first();
        assert_eq!(options.get_socket().unwrap().to_str(), Some("/run/pg"));
        assert_eq!(
            (options.get_username(), options.get_database()),
            ("me", Some("d"))
        );
        let hosts = Hosts::parse("postgres://me@a,b:2/d").unwrap();
        let seen: Vec<_> = hosts
            .0
            .iter()
            .map(|host| (host.get_host(), host.get_port()))
            .collect();
        assert_eq!(seen, [("a", 5432), ("b", 2)]);
    }
}
