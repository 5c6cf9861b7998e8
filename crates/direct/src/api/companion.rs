//! `GET /s3/params` and `GET /s3/sts`.

use std::{collections::BTreeMap, time::SystemTime};

use axum::response::Response;
use http::StatusCode;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::{
    Api, Call, Query,
    body::json,
    fields::File,
    identity::Purpose,
    problem::Problem,
    refusal,
    sign::{open, sent},
};
use crate::{DirectError, Small, Way};

/// How a small file is to be sent.
#[derive(Serialize)]
struct Parameters<'a> {
    method: &'static str,
    url: &'a str,
    fields: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'a str, &'a str>>,
    /// For how many seconds this holds.
    expires: u64,
}

/// The fields of a form, in their order.
pub(super) struct Fields<'a>(pub(super) &'a [(String, String)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

pub(super) async fn params(api: &Api, mut call: Call) -> Result<Response, Problem> {
    let uri = call.parts.uri.clone();
    let mut file = File::of_query(Query::new(uri.query()))?;
    let stated = file.stated.take();
    let who = api.who(&mut call.parts, stated, Purpose::Open).await?;
    let settings = api.direct().settings();
    let way = match settings.small {
        Small::Post => Way::Post,
        Small::Put => Way::Put,
    };
    let record = open(api, &mut call, &who, file.asked(way)).await?;
    let refuse = |error| refusal(&call.parts, Some(record.id()), error);
    match settings.small {
        Small::Post => {
            let form = api.direct().form(&record).await.map_err(refuse)?;
            Ok(json(&Parameters {
                method: "POST",
                url: &form.url,
                fields: Fields(&form.fields),
                headers: None,
                expires: form.lifetime.as_secs(),
            }))
        }
        Small::Put => {
            let put = api.direct().put(&record, settings.lifetime, true).await;
            let put = put.map_err(refuse)?;
            Ok(json(&Parameters {
                method: "PUT",
                url: &put.url,
                fields: Fields(&[]),
                headers: Some(sent(&put.headers)),
                expires: put.lifetime.as_secs(),
            }))
        }
    }
}

/// Credentials as Companion spells them and as the newest client does.
pub(super) async fn credentials(api: &Api, mut call: Call) -> Result<Response, Problem> {
    let who = api.who(&mut call.parts, None, Purpose::Use).await?;
    if api.direct().settings().sts.is_none() {
        return Err(off());
    }
    let given = match api.direct().credentials(&who).await {
        Err(DirectError::NotFound) => return Err(off()),
        given => given.map_err(|error| call.refuse(error))?,
    };
    let keys = &given.credentials;
    let expiration = date(keys.expiration);
    Ok(json(&json!({
        "credentials": {
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "SessionToken": keys.session_token,
            "Expiration": expiration,
            "accessKeyId": keys.access_key_id,
            "secretAccessKey": keys.secret_access_key,
            "sessionToken": keys.session_token,
            "expiration": expiration,
        },
        "bucket": given.bucket,
        "region": given.region,
        "prefix": given.prefix,
    })))
}

fn off() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "this server hands out no temporary credentials; --direct-sts makes it do so",
    )
}

/// As JavaScript writes dates: `2026-11-20T18:00:00.250Z`
pub(super) fn date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or_default();
    at.to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates_and_fields() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_197_600_250);
        assert_eq!(date(at), "2026-11-20T18:00:00.250Z");
        let fields = [("z", "1"), ("a", "2")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = serde_json::to_string(&Fields(&fields)).unwrap();
        assert_eq!(text, r#"{"z":"1","a":"2"}"#);
    }
}
