//! The interop version of the IETF draft that the checks follow, and the limits of the server.

pub(crate) mod fields;

use tokio::sync::OnceCell;
use url::Url;

use self::fields::Limits;
use crate::client::{Client, INTEROP_VERSION, Request};
use crate::options::{InteropVersion, Options};
use crate::requirement::{CheckResult, fail};

/// The newest version whose rules are known.
pub(crate) const NEWEST: u8 = 10;
const OLDEST: u8 = 3;

/// Contents have about this size, in bytes, unless limits require others.
const UNIT: u64 = 100;

/// The dialect of the server, found by the first check that needs it.
pub(crate) type DraftCell = OnceCell<CheckResult<Dialect>>;

/// The version of the draft that requests follow.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// The version whose rules apply.
    pub(crate) version: u8,
    /// The version that requests name.
    pub(crate) named: Option<u8>,
    /// The limits that OPTIONS reports.
    pub(crate) limits: Limits,
}

impl Dialect {
    /// Returns a dialect without limits.
    pub(crate) fn new(named: Option<u8>) -> Self {
        Self {
            version: named.unwrap_or(NEWEST),
            named,
            limits: Limits::default(),
        }
    }

    /// Returns the dialect that the options select, or the newest that creates an upload.
    pub(crate) async fn detect(client: &Client, options: &Options) -> CheckResult<Self> {
        let candidates: Vec<_> = match options.interop_version {
            InteropVersion::Number(version) => vec![Some(version)],
            InteropVersion::Absent => vec![None],
            InteropVersion::Newest => (OLDEST..=NEWEST).rev().map(Some).chain([None]).collect(),
        };
        let is_chosen = options.interop_version != InteropVersion::Newest;
        for named in candidates {
            let dialect = Self::new(named)
                .with_limits(client, &options.endpoint)
                .await?;
            if is_chosen || dialect.is_accepted(client, &options.endpoint).await? {
                return Ok(dialect);
            }
        }
        fail("no upload is created by POST with Upload-Complete: ?0, by any interop version")
    }

    pub(crate) async fn with_limits(
        mut self,
        client: &Client,
        endpoint: &Url,
    ) -> CheckResult<Self> {
        let request = self.name(Request::new("OPTIONS", endpoint));
        let response = client.send(&request).await?;
        // A malformed field is ignored, as clients do; the checks of OPTIONS report it.
        self.limits = Limits::parse(&response).ok().flatten().unwrap_or_default();
        Ok(self)
    }

    /// Creates an empty part of an upload.
    pub(crate) async fn is_accepted(&self, client: &Client, endpoint: &Url) -> CheckResult<bool> {
        let request = self.name(Request::new("POST", endpoint));
        let request = self.flag(request, false).body([]);
        let request = request.field("Upload-Length", 2 * self.unit());
        let response = client.send(&request).await?;
        Ok(response.is_success() && response.field("Location").is_some())
    }

    /// Adds the version to a request.
    pub(crate) fn name(&self, request: Request) -> Request {
        match self.named {
            Some(version) => request.field(INTEROP_VERSION, version),
            None => request,
        }
    }

    /// The field that states whether content is the last.
    pub(crate) const fn flag_name(&self) -> &'static str {
        match self.version {
            ..=3 => "Upload-Incomplete",
            _ => "Upload-Complete",
        }
    }

    /// Adds the statement whether the content is the last of the upload.
    pub(crate) fn flag(&self, request: Request, is_last: bool) -> Request {
        let value = match is_last == (self.version > 3) {
            true => "?1",
            false => "?0",
        };
        request.field(self.flag_name(), value)
    }

    /// Returns the size of contents, within the limits: uploads are made of two or more of them.
    pub(crate) fn unit(&self) -> u64 {
        let limit = |key| self.limits.get(key).unwrap_or_default();
        let small = match self.limits.get("max-append-size") {
            Some(max) => UNIT.min(max / 4).max(1),
            None => UNIT,
        };
        let least = limit("min-append-size").max(limit("min-size").div_ceil(2));
        small.max(least)
    }
}
