//! OPTIONS, and the fields that describe the server.

use crate::client::{Request, Response};
use crate::context::Context;
use crate::requirement::{Capability, CheckResult, ensure, skip};

const OPTIONS: &str = "Core Protocol, OPTIONS";
const VERSION: &str = "Core Protocol, Headers, Tus-Version";
const RESUMABLE: &str = "Core Protocol, Headers, Tus-Resumable";
const EXTENSION: &str = "Core Protocol, Headers, Tus-Extension";
const MAX_SIZE: &str = "Core Protocol, Headers, Tus-Max-Size";
const CHECKSUM: &str = "Checksum, Headers, Tus-Checksum-Algorithm";

checks! {
    Must "tus/options/succeeds", OPTIONS,
        "A successful response to OPTIONS has the status 200 or 204." => succeeds;
    Must "tus/options/has-version", OPTIONS,
        "A successful response to OPTIONS has Tus-Version, which contains 1.0.0." => contains("Tus-Version", "1.0.0");
    Must "tus/options/version-is-a-list", VERSION,
        "Tus-Version is a list of versions, separated by commas." => version_is_a_list;
    Must "tus/options/ignores-the-clients-version", RESUMABLE,
        "The server ignores Tus-Resumable in an OPTIONS request." => ignores_version("9.9.9");
    Must "tus/options/ignores-a-malformed-version", RESUMABLE,
        "The server ignores Tus-Resumable in an OPTIONS request, also a malformed one." => ignores_version("?");
    Must "tus/options/accepts-the-supported-version", RESUMABLE,
        "OPTIONS with Tus-Resumable: 1.0.0 succeeds." => ignores_version("1.0.0");
    Must "tus/options/has-tus-resumable", RESUMABLE,
        "The response to OPTIONS has Tus-Resumable: 1.0.0." => has_tus_resumable;
    Must "tus/options/extensions-are-a-list", EXTENSION,
        "Tus-Extension is a list separated by commas; it is absent if there are no extensions." => extensions_are_a_list;
    Should "tus/options/extensions-are-listed-once", EXTENSION,
        "No extension is listed twice." => extensions_are_listed_once;
    Must "tus/options/creation-with-upload-has-creation", "Creation With Upload",
        "A server that offers creation-with-upload offers creation." => implies(Capability::CreationWithUpload, Capability::Creation);
    Should "tus/options/creation-defer-length-has-creation", "Creation, POST",
        "A server that offers creation-defer-length offers creation." => implies(Capability::CreationDeferLength, Capability::Creation);
    Should "tus/options/checksum-trailer-has-checksum", "Checksum",
        "A server that offers checksum-trailer offers checksum." => implies(Capability::ChecksumTrailer, Capability::Checksum);
    Should "tus/options/concatenation-unfinished-has-concatenation", "Concatenation",
        "A server that offers concatenation-unfinished offers concatenation." => implies(Capability::ConcatenationUnfinished, Capability::Concatenation);
    Should "tus/options/creation-is-offered", "Creation",
        "Servers implement the extension creation." => contains("Tus-Extension", "creation");
    Should "tus/options/max-size-is-reported", MAX_SIZE,
        "A server that rejects uploads for their size reports Tus-Max-Size." => max_size_is_reported;
    Must "tus/options/max-size-is-a-number", MAX_SIZE,
        "Tus-Max-Size is a non-negative integer." => max_size_is_a_number;
    Must "tus/options/checksum-algorithms-are-listed", CHECKSUM, [Checksum],
        "The response has Tus-Checksum-Algorithm, a list separated by commas." => algorithms_are_listed;
    Must "tus/options/checksum-algorithms-include-sha1", "Checksum", [Checksum],
        "The server supports at least the algorithm sha1." => contains("Tus-Checksum-Algorithm", "sha1");
    Must "tus/options/checksum-algorithms-are-lower-case", CHECKSUM, [Checksum],
        "Names of algorithms are ASCII without upper-case letters." => algorithms_are_lower_case;
    May "tus/options/checksum-algorithms-only-with-the-extension", CHECKSUM,
        "Tus-Checksum-Algorithm is sent only with the extension checksum." => algorithms_only_with_extension;
    May "tus/options/upload-url", OPTIONS, [Creation],
        "OPTIONS on an upload succeeds like that on the endpoint." => upload_url;
    Should "tus/options/repeats", OPTIONS,
        "OPTIONS reports the same each time." => repeats;
}

async fn options(c: &Context) -> CheckResult<Response> {
    c.send(Request::new("OPTIONS", c.endpoint())).await
}

async fn succeeds(c: &Context) -> CheckResult {
    options(c).await?.expect(&[200, 204])
}

async fn contains(c: &Context, field: &str, member: &str) -> CheckResult {
    let members = options(c).await?.list(field);
    ensure!(
        members.iter().any(|other| other == member),
        "{field} does not contain {member}"
    )
}

async fn version_is_a_list(c: &Context) -> CheckResult {
    let versions = options(c).await?.list("Tus-Version");
    let is_version = |version: &String| {
        let mut numbers = version.split('.');
        numbers.clone().count() == 3
            && numbers
                .all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    ensure!(!versions.is_empty(), "there is no Tus-Version")?;
    for version in &versions {
        ensure!(is_version(version), "Tus-Version contains {version:?}")?;
    }
    Ok(())
}

async fn ignores_version(c: &Context, version: &str) -> CheckResult {
    let request = Request::new("OPTIONS", c.endpoint()).field("Tus-Resumable", version);
    c.send(request).await?.expect(&[200, 204])
}

async fn has_tus_resumable(c: &Context) -> CheckResult {
    let response = options(c).await?;
    let version = response.required("Tus-Resumable")?;
    ensure!(version == "1.0.0", "Tus-Resumable is {version:?}")
}

async fn extensions_are_a_list(c: &Context) -> CheckResult {
    let extensions = options(c).await?.list("Tus-Extension");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    for extension in &extensions {
        ensure!(
            !extension.is_empty() && extension.bytes().all(is_name),
            "Tus-Extension contains {extension:?}"
        )?;
    }
    Ok(())
}

async fn extensions_are_listed_once(c: &Context) -> CheckResult {
    let mut extensions = options(c).await?.list("Tus-Extension");
    let count = extensions.len();
    extensions.sort();
    extensions.dedup();
    ensure!(extensions.len() == count, "an extension is listed twice")
}

async fn implies(c: &Context, offered: Capability, needed: Capability) -> CheckResult {
    ensure!(
        !c.server.has(offered) || c.server.has(needed),
        "{} is offered without {}",
        offered.name(),
        needed.name()
    )
}

async fn max_size_is_a_number(c: &Context) -> CheckResult {
    let response = options(c).await?;
    if response.field("Tus-Max-Size").is_some() {
        response.number("Tus-Max-Size")?;
    }
    Ok(())
}

async fn algorithms_are_listed(c: &Context) -> CheckResult {
    let response = options(c).await?;
    response.required("Tus-Checksum-Algorithm")?;
    let names = response.list("Tus-Checksum-Algorithm");
    ensure!(
        names.iter().all(|name| !name.is_empty()),
        "Tus-Checksum-Algorithm has an empty name"
    )
}

async fn algorithms_are_lower_case(c: &Context) -> CheckResult {
    let names = options(c).await?.list("Tus-Checksum-Algorithm");
    let is_valid = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    for name in &names {
        ensure!(name.bytes().all(is_valid), "an algorithm is named {name:?}")?;
    }
    Ok(())
}

async fn algorithms_only_with_extension(c: &Context) -> CheckResult {
    if !c.server.has(Capability::Checksum) && !c.server.has(Capability::ChecksumTrailer) {
        options(c).await?.expect_absent("Tus-Checksum-Algorithm")?;
    }
    Ok(())
}

async fn upload_url(c: &Context) -> CheckResult {
    let url = c.create(1).await?;
    let response = c.send(Request::new("OPTIONS", &url)).await?;
    response.expect(&[200, 204])?;
    response.required("Tus-Version")?;
    Ok(())
}

async fn repeats(c: &Context) -> CheckResult {
    let names = [
        "Tus-Version",
        "Tus-Extension",
        "Tus-Max-Size",
        "Tus-Checksum-Algorithm",
    ];
    let (first, second) = (options(c).await?, options(c).await?);
    for name in names {
        ensure!(
            first.field(name) == second.field(name),
            "{name} has changed"
        )?;
    }
    Ok(())
}

async fn max_size_is_reported(c: &Context) -> CheckResult {
    if !c.server.has(Capability::Creation) {
        return skip("the server does not offer creation");
    }
    // Larger than any storage, and still an integer in all languages.
    let response = c.send(c.post().field("Upload-Length", 1_u64 << 52)).await?;
    ensure!(
        response.status != 413 || options(c).await?.field("Tus-Max-Size").is_some(),
        "a creation is 413, but the response to OPTIONS has no Tus-Max-Size"
    )
}
