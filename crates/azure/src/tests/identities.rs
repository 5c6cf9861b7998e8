//! Tokens: where they come from, how long they are used.

use std::time::Duration;

use landfall_objects::{Cloud as _, ErrorKind, ObjectHeaders, PartCondition};

use super::{ACCOUNT, KEY, client, object, payload, script::Step};

const TENANT: (&str, &str) = ("AZURE_TENANT_ID", "tenant");
const CLIENT: (&str, &str) = ("AZURE_CLIENT_ID", "app");
const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "S3CRET");

fn token(name: &str, seconds: u64) -> Step {
    let body =
        format!(r#"{{"access_token":"{name}","expires_in":{seconds},"token_type":"Bearer"}}"#);
    Step::new(200).body(body)
}

fn bearers(sent: &[super::script::Sent]) -> Vec<&str> {
    let blobs = sent.iter().filter(|sent| sent.url.contains("blob.core"));
    blobs
        .filter_map(|sent| sent.header("authorization"))
        .collect()
}

#[tokio::test]
async fn a_token_is_requested_once() {
    let steps = [
        token("T1", 3_600),
        Step::new(201),
        Step::new(201),
        Step::new(201),
    ];
    let (client, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], steps);
    let object = object();
    let headers = ObjectHeaders::default();
    let (one, two) = tokio::join!(
        client.create_multipart(&object, &headers),
        client.create_multipart(&object, &headers)
    );
    one.and(two).unwrap();
    client
        .upload_part(&object, "", 1, payload(), PartCondition::default())
        .await
        .unwrap();
    let sent = script.finished();
    assert_eq!(
        sent[0].url,
        "https://login.microsoftonline.com/tenant/oauth2/v2.0/token"
    );
    assert!(sent[0].body.contains("S3CRET") && sent[0].body.contains("storage.azure.com"));
    assert_eq!(bearers(&sent), ["Bearer T1", "Bearer T1", "Bearer T1"]);
}

#[tokio::test]
async fn the_source_of_tokens_is_reported() {
    let (secret, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], [token("T1", 3_600)]);
    let report = secret.inspect_credentials().await.unwrap();
    assert_eq!(report.source, "identity of acme, by AZURE_CLIENT_SECRET");
    assert_eq!((report.rights, report.expires), (None, None));
    script.finished();
    let (key, _) = client([ACCOUNT, KEY], []);
    let report = key.inspect_credentials().await.unwrap();
    assert_eq!(report.source, "account key of acme");
    let refused = Step::new(401).body("{}");
    let (refused, _) = client([ACCOUNT, TENANT, CLIENT, SECRET], [refused]);
    let error = refused.inspect_credentials().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    // With less than five minutes left, every call tries to renew it, and uses it if that fails.
    let failure = Step::new(503).body("{}");
    let steps = [
        token("T1", 200),
        Step::new(201),
        failure,
        Step::new(201),
        token("T2", 3_600),
        Step::new(201),
    ];
    let (client, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], steps);
    for _ in 0..3 {
        client
            .create_multipart(&object(), &ObjectHeaders::default())
            .await
            .unwrap();
    }
    assert_eq!(
        bearers(&script.finished()),
        ["Bearer T1", "Bearer T1", "Bearer T2"]
    );
}

#[tokio::test]
async fn a_rejected_token_is_renewed_once() {
    let rejected = || Step::refusal(401, "InvalidAuthenticationInfo");
    let steps = [
        token("T1", 3_600),
        rejected(),
        token("T2", 3_600),
        Step::new(201),
    ];
    let (works, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], steps);
    works
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .unwrap();
    assert_eq!(bearers(&script.finished()), ["Bearer T1", "Bearer T2"]);

    let steps = [
        token("T1", 3_600),
        rejected(),
        token("T2", 3_600),
        rejected(),
    ];
    let (fails, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], steps);
    let error = fails
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .expect_err("rejected");
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
    assert_eq!(script.finished().len(), 4);
}

#[tokio::test]
async fn refused_secrets_are_explained() {
    let body = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The secret has expired.\r\nTrace: x"}"#;
    let (client, _) = client(
        [ACCOUNT, TENANT, CLIENT, SECRET],
        [Step::new(401).body(body)],
    );
    let error = client
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .expect_err("refused");
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
    let line = error.to_string();
    assert!(
        line.contains("AZURE_CLIENT_SECRET")
            && line.contains("AADSTS7000222: The secret has expired."),
        "{line}"
    );
    assert!(
        !line.contains("S3CRET") && !line.contains("Trace"),
        "{line}"
    );
}

#[tokio::test]
async fn the_identity_of_a_pod() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "FEDERATED").unwrap();
    let file = ("AZURE_FEDERATED_TOKEN_FILE", path.to_str().unwrap());
    let host = ("AZURE_AUTHORITY_HOST", "https://login.chinacloudapi.cn/");
    let steps = [token("T1", 3_600), Step::new(201)];
    let (client, script) = client([ACCOUNT, TENANT, CLIENT, file, host], steps);
    client
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .unwrap();
    let sent = script.finished();
    assert!(
        sent[0]
            .url
            .starts_with("https://login.chinacloudapi.cn/tenant/"),
        "{}",
        sent[0].url
    );
    assert!(sent[0].body.contains("FEDERATED"));
    assert_eq!(bearers(&sent), ["Bearer T1"]);
}

#[tokio::test]
async fn the_identity_of_an_app_service() {
    let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token");
    let header = ("IDENTITY_HEADER", "S3CRET");
    let body = r#"{"access_token":"T1","expires_on":"4102444800","resource":"r"}"#;
    let steps = [Step::new(200).body(body), Step::new(201)];
    let (client, script) = client([ACCOUNT, CLIENT, endpoint, header], steps);
    client
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .unwrap();
    let sent = script.finished();
    assert!(sent[0].url.ends_with("&client_id=app"), "{}", sent[0].url);
    assert_eq!(sent[0].header("x-identity-header"), Some("S3CRET"));
    assert_eq!(bearers(&sent), ["Bearer T1"]);
}

#[tokio::test]
async fn the_identity_of_a_machine() {
    let body = r#"{"access_token":"T1","expires_on":"4102444800","resource":"r"}"#;
    let steps = [Step::new(200).body(body), Step::new(201)];
    // This variable is of other programs: no token is requested there.
    let other = ("AZBLOB_ENDPOINT", "https://elsewhere.example");
    let (client, script) = client([ACCOUNT, other], steps);
    client
        .create_multipart(&object(), &ObjectHeaders::default())
        .await
        .unwrap();
    let sent = script.finished();
    assert!(
        sent[0]
            .url
            .starts_with("http://169.254.169.254/metadata/identity/"),
        "{}",
        sent[0].url
    );
    assert_eq!(sent[0].header("metadata"), Some("true"));
    assert_eq!(bearers(&sent), ["Bearer T1"]);
}

#[tokio::test]
async fn copies_show_the_token_and_no_signature() {
    let steps = [token("T1", 3_600), Step::new(201)];
    let (client, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], steps);
    client
        .copy_part(&object(), "", 1, &object(), 0..7)
        .await
        .unwrap();
    let copy = &script.finished()[1];
    assert_eq!(
        copy.header("x-ms-copy-source-authorization"),
        Some("Bearer T1")
    );
    assert_eq!(
        copy.header("x-ms-copy-source"),
        Some("https://acme.blob.core.windows.net/uploads/k")
    );
    assert_eq!(copy.header("x-ms-source-range"), Some("bytes=0-6"));
    assert_eq!(copy.header("content-length"), Some("0"));
}

#[tokio::test]
async fn missing_rights_name_the_role() {
    let refusal = Step::refusal(403, "AuthorizationPermissionMismatch");
    let (client, _) = client(
        [ACCOUNT, TENANT, CLIENT, SECRET],
        [token("T1", 3_600), refusal],
    );
    let done = client
        .complete_multipart(&object(), "", &[], &ObjectHeaders::default())
        .await;
    let line = done.expect_err("refused").to_string();
    assert!(line.contains("Storage Blob Data Contributor"), "{line}");
}

#[tokio::test]
async fn an_identity_signs_urls_by_a_key_that_is_cached() {
    let key = "<UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid><SignedStart>START</SignedStart>\
        <SignedExpiry>END</SignedExpiry><SignedService>b</SignedService><SignedVersion>2020-12-06</SignedVersion>\
        <Value>a2V5</Value></UserDelegationKey>";
    let now = jiff::Timestamp::now();
    let text = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let key = key.replace("START", &text(now - Duration::from_secs(5)));
    let key = key.replace("END", &text(now + Duration::from_secs(7 * 24 * 3_600 + 60)));
    let steps = [token("T1", 3_600), Step::new(200).body(key)];
    let (client, script) = client([ACCOUNT, TENANT, CLIENT, SECRET], steps);
    let hour = Duration::from_secs(3_600);
    let url = client
        .presign_download(&object(), "text/plain", "inline", hour)
        .await
        .unwrap();
    assert!(
        url.starts_with("https://acme.blob.core.windows.net/uploads/k?"),
        "{url}"
    );
    assert!(
        url.contains("sp=r&") && url.contains("sktid=t") && url.contains("sig="),
        "{url}"
    );
    for (only_creates, rights) in [(true, "sp=c&"), (false, "sp=cw&")] {
        let url = client.presign_upload(&object(), only_creates, hour).await;
        let url = url.unwrap();
        assert!(url.contains(rights), "{url}");
    }
    let sent = script.finished();
    assert_eq!(sent.len(), 2);
    assert!(
        sent[1]
            .url
            .ends_with("/?restype=service&comp=userdelegationkey"),
        "{}",
        sent[1].url
    );
}
