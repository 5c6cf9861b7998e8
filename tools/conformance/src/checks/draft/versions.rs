//! The interop versions of the draft.

use super::requests::Draft;
use super::{CREATION, VERSIONS, draft_checks};
use crate::client::INTEROP_VERSION;
use crate::dialect::Dialect;
use crate::requirement::{CheckResult, ensure, equal, skip};

draft_checks! {
    Must "draft/versions/no-104-without-version", VERSIONS,
        "A client that names no interop version gets no 104." => no_104(None);
    Must "draft/versions/no-104-for-an-unknown-version", VERSIONS,
        "A client of another interop version gets no 104." => no_104(Some("99"));
    Must "draft/versions/no-104-for-a-malformed-version", VERSIONS,
        "A client whose interop version is not an Integer gets no 104." => no_104(Some("abc"));
    Must "draft/versions/no-104-for-a-string", VERSIONS,
        "A client whose interop version is a String gets no 104." => no_104(Some("\"6\""));
    Must "draft/versions/no-104-for-two-versions", VERSIONS,
        "A client whose interop version is a list gets no 104." => no_104(Some("6, 10"));
    Must "draft/versions/104-has-the-version", VERSIONS,
        "Each 104 has the interop version of the request." => has_the_version;
    Must "draft/versions/part-of-an-unknown-version-is-no-whole", CREATION,
        "A part in an unknown interop version is rejected, or creates an upload that can be resumed." => part_is_no_whole;
    May "draft/versions/no-version-is-accepted", VERSIONS,
        "An upload can be created and completed without an interop version." => accepted(None);
    May "draft/versions/3-is-accepted", VERSIONS,
        "Version 3: an upload can be created, resumed and completed." => accepted(Some(3));
    May "draft/versions/4-is-accepted", VERSIONS,
        "Version 4: an upload can be created, resumed and completed." => accepted(Some(4));
    May "draft/versions/5-is-accepted", VERSIONS,
        "Version 5: an upload can be created, resumed and completed." => accepted(Some(5));
    May "draft/versions/6-is-accepted", VERSIONS,
        "Version 6: an upload can be created, resumed and completed." => accepted(Some(6));
    May "draft/versions/7-is-accepted", VERSIONS,
        "Version 7: an upload can be created, resumed and completed." => accepted(Some(7));
    May "draft/versions/8-is-accepted", VERSIONS,
        "Version 8: an upload can be created, resumed and completed." => accepted(Some(8));
    May "draft/versions/9-is-accepted", VERSIONS,
        "Version 9: an upload can be created, resumed and completed." => accepted(Some(9));
    May "draft/versions/10-is-accepted", VERSIONS,
        "Version 10: an upload can be created, resumed and completed." => accepted(Some(10));
    May "draft/versions/responses-have-the-version", VERSIONS,
        "Final responses have the interop version of the request." => responses_have_the_version;
}

async fn no_104(d: &Draft<'_>, version: Option<&str>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.with_version(d.creation(&data, true), version);
    d.send(request).await?.expect_no_104()
}

async fn has_the_version(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (mut started, _) = d.create_announced(&data, d.unit(), true).await?;
    let response = started.connection.finish(&data[d.unit()..]).await?;
    let named = d.dialect.named.map(|version| version.to_string());
    let heads = started.interim.iter().chain(&response.interim);
    for interim in heads.filter(|interim| interim.status == 104) {
        let version = interim.required(INTEROP_VERSION)?;
        ensure!(
            Some(version) == named.as_deref(),
            "{INTEROP_VERSION} of a 104 is {version}"
        )?;
    }
    Ok(())
}

async fn part_is_no_whole(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let request = d.creation(&data[..d.unit()], false);
    let request = d.with_version(request, Some("99"));
    let response = d.send(request.field("Upload-Length", data.len())).await?;
    if !response.is_success() {
        response.expect_rejection()?;
        return Ok(());
    }
    let url = d.context.location(&response)?;
    let state = d.expect_incomplete(&url).await?;
    equal("Upload-Offset", state.offset, d.unit() as u64)
}

async fn accepted(d: &Draft<'_>, version: Option<u8>) -> CheckResult {
    let (client, endpoint) = (&d.context.client, d.context.endpoint());
    let dialect = Dialect::new(version).with_limits(client, endpoint).await?;
    if !dialect.is_accepted(client, endpoint).await? {
        return skip("the server does not accept this version");
    }
    let d = Draft {
        context: d.context,
        dialect: &dialect,
    };
    let data = d.data(3)?;
    let unit = d.unit();
    let url = d.create(data.len()).await?;
    let response = d.part(&url, 0, &data[..unit]).await?;
    ensure!(
        d.is_complete(&response)? != Some(true),
        "the upload is complete after its first part"
    )?;
    ensure!(
        d.expect_incomplete(&url).await?.offset == unit as u64,
        "HEAD does not report the bytes of the first part"
    )?;
    d.last(&url, unit, &data[unit..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn responses_have_the_version(d: &Draft<'_>) -> CheckResult {
    let Some(version) = d.dialect.named else {
        return skip("the requests name no version");
    };
    let response = d.send(d.creation(b"", false)).await?;
    response.expect_number(INTEROP_VERSION, u64::from(version))
}
