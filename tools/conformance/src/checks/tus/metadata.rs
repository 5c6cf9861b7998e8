//! `Upload-Metadata`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::Url;

use crate::context::Context;
use crate::requirement::{CheckResult, ensure};

const METADATA: &str = "Creation, Headers, Upload-Metadata";

checks! {
    Must "tus/metadata/is-returned", METADATA,
        "HEAD returns Upload-Metadata with the value of the creation." => returned("filename d29ybGQudHh0");
    Must "tus/metadata/several-pairs", METADATA,
        "HEAD returns all pairs." => returned("filename d29ybGQudHh0,filetype dGV4dC9wbGFpbg==,x eA==");
    Must "tus/metadata/key-without-value", METADATA,
        "A key may have no value, and no space after it." => returned("filename d29ybGQudHh0,is_confidential");
    Must "tus/metadata/only-a-key", METADATA,
        "A single key without a value is valid." => returned("is_confidential");
    Should "tus/metadata/empty-value-after-a-space", METADATA,
        "A key with an empty value may have its space, which tus-js-client sends." => returned("empty ,filename d29ybGQudHh0");
    Must "tus/metadata/non-ascii-value", METADATA,
        "Values may be any bytes, such as UTF-8." => bytes_are_returned("Grüße, 世界.txt".as_bytes());
    Must "tus/metadata/binary-value", METADATA,
        "Values may be any bytes, also zeros and ends of lines." => bytes_are_returned(&[0, 13, 10, 127, 128, 255]);
    Should "tus/metadata/long-value", METADATA,
        "A value of 2000 bytes is accepted." => long_value;
    Must "tus/metadata/after-data", METADATA,
        "HEAD returns the metadata also when data is stored." => after_data;
    Should "tus/metadata/is-returned-exactly", METADATA,
        "The value is that of the creation, byte for byte." => exactly("zebra eg==,alpha YQ==,m bQ==");
    Should "tus/metadata/key-with-punctuation", METADATA,
        "Keys are ASCII without spaces and commas: other characters are allowed." => returned("my-key_1.x/y dmFsdWU=");
    May "tus/metadata/absent-without-metadata", METADATA,
        "HEAD has no Upload-Metadata if the creation had none." => absent;
    May "tus/metadata/duplicate-key-is-rejected", METADATA,
        "Keys are unique: a duplicate is rejected." => rejected("a YQ==,a Yg==");
    May "tus/metadata/invalid-base64-is-rejected", METADATA,
        "Values are Base64: another text is rejected." => rejected("filename !!!!");
    May "tus/metadata/empty-pair-is-rejected", METADATA,
        "Keys are not empty." => rejected("a YQ==,,b Yg==");
    May "tus/metadata/surplus-value-is-rejected", METADATA,
        "A pair has one value." => rejected("filename d29y bGQ=");
    Should "tus/metadata/values-cannot-add-fields", METADATA,
        "The server sanitizes values that it uses in response fields." => values_cannot_add_fields;
    Should "tus/metadata/uploads-have-their-own", METADATA,
        "Each upload has the metadata of its creation." => separate;
}

/// Creates an upload with this metadata; returns the value that was sent.
async fn with_metadata(c: &Context, value: &str) -> CheckResult<(Url, String)> {
    let sent = c.metadata(value);
    let request = c.post().field("Upload-Length", 10);
    let url = c.created(request.set("Upload-Metadata", &sent)).await?;
    Ok((url, sent))
}

/// The pairs of a value, in order; an empty value counts as none.
fn pairs(value: &str) -> Vec<(&str, &str)> {
    let mut pairs: Vec<_> = value
        .split(',')
        .map(|pair| pair.trim().split_once(' ').unwrap_or((pair.trim(), "")))
        .collect();
    pairs.sort_unstable();
    pairs
}

async fn expect_metadata(c: &Context, url: &Url, sent: &str) -> CheckResult {
    let head = c.head(url).await?;
    let returned = head.required("Upload-Metadata")?;
    ensure!(
        pairs(returned) == pairs(sent),
        "Upload-Metadata is {returned:?}, not {sent:?}"
    )
}

/// Fails unless HEAD returns this pair, among others.
pub(super) async fn expect_pair(c: &Context, url: &Url, pair: &str) -> CheckResult {
    let head = c.head(url).await?;
    let returned = head.required("Upload-Metadata")?;
    ensure!(returned.contains(pair), "Upload-Metadata is {returned:?}")
}

async fn returned(c: &Context, value: &str) -> CheckResult {
    let (url, sent) = with_metadata(c, value).await?;
    expect_metadata(c, &url, &sent).await
}

async fn bytes_are_returned(c: &Context, value: &[u8]) -> CheckResult {
    returned(c, &format!("text {}", STANDARD.encode(value))).await
}

async fn long_value(c: &Context) -> CheckResult {
    bytes_are_returned(c, &[b'x'; 2000]).await
}

async fn after_data(c: &Context) -> CheckResult {
    let (url, sent) = with_metadata(c, "filename d29ybGQudHh0").await?;
    c.append(&url, 0, b"hello").await?;
    expect_metadata(c, &url, &sent).await?;
    c.append(&url, 5, b"world").await?;
    expect_metadata(c, &url, &sent).await
}

async fn exactly(c: &Context, value: &str) -> CheckResult {
    let (url, sent) = with_metadata(c, value).await?;
    let head = c.head(&url).await?;
    let returned = head.required("Upload-Metadata")?;
    ensure!(
        returned == sent,
        "Upload-Metadata is {returned:?}, not {sent:?}"
    )
}

async fn absent(c: &Context) -> CheckResult {
    let url = c.create(10).await?;
    if c.options.metadata.is_empty() {
        c.head(&url).await?.expect_absent("Upload-Metadata")?;
    }
    Ok(())
}

async fn rejected(c: &Context, value: &str) -> CheckResult {
    let request = c.post().field("Upload-Length", 10);
    let request = request.set("Upload-Metadata", c.metadata(value));
    c.send(request).await?.expect_rejection()
}

async fn values_cannot_add_fields(c: &Context) -> CheckResult {
    let name = STANDARD.encode("x\"\r\nX-Injected: 1\r\n\r\ny");
    let value = format!("filename {name},name {name},filetype {name},type {name}");
    let sent = c.metadata(&value);
    let request = c
        .post()
        .field("Upload-Length", 5)
        .set("Upload-Metadata", sent);
    let response = c.send(request).await?;
    if !response.is_success() {
        return Ok(());
    }
    let url = c.location(&response)?;
    c.append(&url, 0, b"hello").await?;
    let methods = ["HEAD", "GET"].into_iter();
    for method in methods.take(1 + usize::from(c.options.downloads)) {
        c.send(c.tus(method, &url))
            .await?
            .expect_absent("X-Injected")?;
    }
    Ok(())
}

async fn separate(c: &Context) -> CheckResult {
    let (first, first_sent) = with_metadata(c, "label Zmlyc3Q=").await?;
    let (second, second_sent) = with_metadata(c, "label c2Vjb25k").await?;
    expect_metadata(c, &first, &first_sent).await?;
    expect_metadata(c, &second, &second_sent).await
}
