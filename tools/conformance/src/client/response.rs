//! Responses, with the assertions of checks.

use crate::requirement::{CheckResult, Finding, ensure, equal};

/// A final or interim response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The interim responses that came before it.
    pub(crate) interim: Vec<Self>,
}

impl From<&http::response::Parts> for Response {
    fn from(head: &http::response::Parts) -> Self {
        let fields = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Self {
            status: head.status.as_u16(),
            fields: fields.collect(),
            ..Self::default()
        }
    }
}

impl Response {
    /// Returns the first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Returns all values of a field.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let same = move |other: &String| other.eq_ignore_ascii_case(name);
        let fields = self.fields.iter().filter(move |(other, _)| same(other));
        fields.map(|(_, value)| value.as_str())
    }

    /// Returns the members of a comma-separated field.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let members = self.all(name).flat_map(|value| value.split(','));
        members.map(|member| member.trim().to_owned()).collect()
    }

    /// Returns whether the server closes the connection after this response.
    pub(crate) fn is_closing(&self) -> bool {
        let options = self.list("Connection");
        options
            .iter()
            .any(|option| option.eq_ignore_ascii_case("close"))
    }

    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Fails unless the status is one of these.
    pub(crate) fn expect(&self, statuses: &[u16]) -> CheckResult {
        ensure!(
            statuses.contains(&self.status),
            "the status is {}, not {}",
            self.status,
            alternatives(statuses)
        )
    }

    /// Fails unless the status is 2xx. For steps that prepare a check.
    pub(crate) fn expect_success(&self) -> CheckResult {
        ensure!(self.is_success(), "the status is {}, not 2xx", self.status)
    }

    /// Returns the response if its status is 2xx.
    pub(crate) fn success(self) -> CheckResult<Self> {
        self.expect_success().map(|()| self)
    }

    /// Fails unless the request was rejected: 4xx, or 501 for what is not supported.
    pub(crate) fn expect_rejection(&self) -> CheckResult {
        ensure!(
            matches!(self.status, 400..=499 | 501),
            "the status is {}, not 4xx",
            self.status
        )
    }

    /// Returns the only value of a field.
    pub(crate) fn required(&self, name: &str) -> CheckResult<&str> {
        let mut values = self.all(name);
        let missing = || Finding::failed(format!("the response has no {name}"));
        let value = values.next().ok_or_else(missing)?;
        ensure!(values.next().is_none(), "the response has two {name}")?;
        Ok(value)
    }

    /// Returns the value of a field that is a non-negative integer.
    pub(crate) fn number(&self, name: &str) -> CheckResult<u64> {
        let value = self.required(name)?;
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|_| is_number);
        number.ok_or_else(|| {
            Finding::failed(format!("{name} is {value:?}, not a non-negative integer"))
        })
    }

    /// Fails unless a field has this number.
    pub(crate) fn expect_number(&self, name: &str, expected: u64) -> CheckResult {
        let number = self.number(name)?;
        equal(name, number, expected)
    }

    /// Fails unless the status is 2xx and `Upload-Offset` has this value.
    pub(crate) fn expect_stored(&self, offset: u64) -> CheckResult {
        self.expect_success()?;
        self.expect_number("Upload-Offset", offset)
    }

    /// Fails if the status is 2xx; `reason` is the end of the sentence with the status.
    pub(crate) fn expect_no_success(&self, reason: &str) -> CheckResult {
        ensure!(!self.is_success(), "the status is {}{reason}", self.status)
    }

    /// Fails if the client would repeat the request elsewhere, with GET.
    pub(crate) fn expect_no_redirect(&self) -> CheckResult {
        ensure!(
            !matches!(self.status, 301..=303),
            "the status is {}",
            self.status
        )
    }

    /// Fails unless a comma-separated field has this member, in any case.
    pub(crate) fn expect_member(&self, name: &str, member: &str) -> CheckResult {
        let mut members = self.list(name).into_iter();
        let is_there = members.any(|other| other.eq_ignore_ascii_case(member));
        ensure!(is_there, "{name} does not contain {member}")
    }

    /// Fails if it is a final response.
    pub(crate) fn expect_interim(&self) -> CheckResult {
        let status = self.status;
        ensure!(
            status < 200,
            "the status is {status} before all content is sent"
        )
    }

    /// Fails if a 104 was sent before the response.
    pub(crate) fn expect_no_104(&self) -> CheckResult {
        ensure!(
            self.interim.iter().all(|interim| interim.status != 104),
            "there is a 104"
        )
    }

    /// Fails if the field is there.
    pub(crate) fn expect_absent(&self, name: &str) -> CheckResult {
        if let Some(value) = self.field(name) {
            return Err(Finding::failed(format!("the response has {name}: {value}")));
        }
        Ok(())
    }

    pub(super) fn transcript(&self) -> String {
        let mut text: String = self.interim.iter().map(Self::transcript).collect();
        text.push_str(&format!("< HTTP/1.1 {} {}\n", self.status, self.reason));
        for (name, value) in &self.fields {
            text.push_str(&format!("< {name}: {value}\n"));
        }
        text
    }
}

fn alternatives(statuses: &[u16]) -> String {
    let statuses: Vec<_> = statuses.iter().map(u16::to_string).collect();
    match statuses.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
