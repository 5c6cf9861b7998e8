//! The chain with real files and programs, and fakes of AWS's services.

use std::{fs, time::SystemTime};

use super::*;
use crate::client::tests::script::{Script, Step, response};

/// A home directory and the variables of a process.
struct TestProcess {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl TestProcess {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join(".aws/sso/cache")).expect("made");
        let home = dir.path().to_str().expect("text").to_owned();
        // Otherwise some tests would ask the network of this machine.
        let disabled = ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        Self {
            dir,
            variables: vec![("HOME".to_owned(), home), disabled],
        }
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        fs::write(self.path(path), text).expect("written");
        self
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.path(path).to_str().expect("text").to_owned()
    }

    fn chain(&self, profile: Option<&str>) -> CredentialChain {
        let calls = CallSettings::default().caller(false).expect("connections");
        let variables = self.variables.clone();
        let get = move |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found
                .map(|(_, value)| value.clone())
                .filter(|value| !value.is_empty())
        };
        let profile = profile.map(str::to_owned);
        CredentialChain::with_variables(profile, calls.http, "eu-west-1", Box::new(get))
    }

    async fn find(&self) -> Credentials {
        self.chain(None).credentials().await.expect("credentials")
    }

    async fn id(&self) -> String {
        self.find().await.access_key_id
    }

    async fn error(&self) -> String {
        let error = self.chain(None).credentials().await.expect_err("none");
        let error = error.to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }
}

#[track_caller]
fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

fn keys(id: &str) -> Step {
    let body = format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"S","Token":"T",
            "Expiration":"2030-01-02T03:04:05Z"}}"#
    );
    response("200 OK", &[], &body)
}

fn assumed(action: &str, id: &str) -> Step {
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
         <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>S</SecretAccessKey>\
         <SessionToken>T</SessionToken><Expiration>2030-01-02T03:04:05Z</Expiration></Credentials>\
         </{action}Result></{action}Response>"
    );
    response("200 OK", &[], &body)
}

fn sts_error(code: &str, message: &str) -> Step {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    );
    response("403 Forbidden", &[], &body)
}

const KEYS_FILE: &str = "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = d\n\
    [work]\naws_access_key_id = WORK\naws_secret_access_key = w\naws_session_token = t\n";

#[tokio::test]
async fn variables_come_before_the_profile_and_empty_ones_are_not_set() {
    let home = TestProcess::new().file(".aws/credentials", KEYS_FILE);
    assert_eq!(home.id().await, "DEFAULT");
    let home = home.set("AWS_PROFILE", "work");
    assert_eq!(home.find().await.session_token.as_deref(), Some("t"));
    let home = home
        .set("AWS_ACCESS_KEY_ID", "")
        .set("AWS_SECRET_ACCESS_KEY", "");
    assert_eq!(home.id().await, "WORK");
    let home = home.set("AWS_ACCESS_KEY_ID", "ENV");
    let missing = "AWS_ACCESS_KEY_ID is set, but not AWS_SECRET_ACCESS_KEY";
    assert_eq!(home.error().await, missing);
    let home = home.set("AWS_SECRET_ACCESS_KEY", "e");
    assert_eq!(home.find().await, Credentials::new("ENV", "e"));
    let chosen = home.chain(Some("default")).credentials().await;
    assert_eq!(
        chosen.expect("credentials"),
        Credentials::new("DEFAULT", "d")
    );
}

#[tokio::test]
async fn a_mistyped_profile_is_named_and_nothing_else_is_used() {
    let home = TestProcess::new()
        .file(".aws/credentials", KEYS_FILE)
        .set("AWS_PROFILE", "wrok")
        .set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
    let error = home.error().await;
    says(
        &error,
        &[
            "\"wrok\"",
            ".aws/config",
            ".aws/credentials",
            "default, work",
        ],
    );
}

#[tokio::test]
async fn files_that_cannot_be_read_are_an_error_if_a_profile_is_named() {
    let endpoint = Script::start([keys("ECS")]).await;
    let home = TestProcess::new();
    fs::create_dir(home.path(".aws/config")).expect("a directory in its place");
    let home = home.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.endpoint());
    assert_eq!(home.id().await, "ECS");
    let home = home.set("AWS_PROFILE", "work");
    says(&home.error().await, &["cannot read", ".aws/config"]);
}

#[tokio::test]
async fn files_may_be_elsewhere() {
    let home = TestProcess::new()
        .file("my-config", "[profile a]\ncredential_process = none\n")
        .file("my-keys", KEYS_FILE);
    let (config, keys) = (home.text("my-config"), home.text("my-keys"));
    let home = home
        .set("AWS_CONFIG_FILE", config)
        .set("AWS_SHARED_CREDENTIALS_FILE", keys);
    assert_eq!(home.id().await, "DEFAULT");
}

#[tokio::test]
async fn programs_get_their_arguments_as_in_a_shell() {
    let home = TestProcess::new();
    let tool = home.path("a tool");
    let script = r#"#!/bin/sh
[ "$#" = 3 ] && [ "$2" = "two words" ] && [ "$3" = '"quoted"' ] || { echo "got $*" >&2; exit 3; }
echo "{\"Version\":1,\"AccessKeyId\":\"$1\",\"SecretAccessKey\":\"S\",\"SessionToken\":\"T\","
echo "\"Expiration\":\"2030-01-02T03:04:05Z\"}"
"#;
    fs::write(&tool, script).expect("written");
    let tool = tool.display();
    let config = format!(
        "[default]\ncredential_process = sh \"{tool}\" PROC \"two words\" '\"quoted\"'\n\
        [profile wrong]\ncredential_process = sh \"{tool}\" PROC\n\
        [profile silent]\ncredential_process = true\n"
    );
    let home = home.file(".aws/config", &config);
    let found = home.find().await;
    assert_eq!(
        (&*found.access_key_id, found.session_token.as_deref()),
        ("PROC", Some("T"))
    );
    let expires = found.expires.expect("an end");
    let since = expires
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    assert_eq!(since.as_secs(), 1_893_553_445);
    let home = home.set("AWS_PROFILE", "wrong");
    says(
        &home.error().await,
        &["\"wrong\"", ".aws/config", "credential_process", "got PROC"],
    );
    let home = home.set("AWS_PROFILE", "silent");
    says(&home.error().await, &["\"silent\"", "no JSON"]);
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_of_its_source_profile() {
    let sts = Script::start([
        assumed("AssumeRole", "ROLE"),
        sts_error(
            "AccessDenied",
            "User: arn:aws:iam::1:user/u is not authorized",
        ),
    ])
    .await;
    let config = "[profile admin]\nrole_arn = arn:aws:iam::123456789012:role/admin\n\
        source_profile = work\nexternal_id = x/1\nrole_session_name = me\nduration_seconds = 900\n\
        region = eu-central-1\n";
    let home = TestProcess::new()
        .file(".aws/credentials", KEYS_FILE)
        .file(".aws/config", config)
        .set("AWS_PROFILE", "admin")
        .set("AWS_ENDPOINT_URL_STS", sts.endpoint());
    let found = home.find().await;
    assert_eq!(
        (&*found.access_key_id, found.session_token.as_deref()),
        ("ROLE", Some("T"))
    );
    let request = sts.request(0);
    assert_eq!(request.line, "POST / HTTP/1.1");
    for parameter in [
        "Action=AssumeRole&",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fadmin",
        "ExternalId=x%2F1",
        "RoleSessionName=me",
        "DurationSeconds=900",
    ] {
        assert!(
            request.text().contains(parameter),
            "{parameter}: {}",
            request.text()
        );
    }
    let signed = request.header("authorization").expect("signed");
    says(
        signed,
        &["Credential=WORK/", "/eu-central-1/sts/aws4_request"],
    );
    assert_eq!(request.header("x-amz-security-token"), Some("t"));
    let error = home.error().await;
    says(
        &error,
        &[
            "\"admin\"",
            ".aws/config",
            "role/admin",
            "AccessDenied",
            "user/u",
        ],
    );
}

#[tokio::test]
async fn a_web_identity_assumes_a_role_without_keys() {
    let action = "AssumeRoleWithWebIdentity";
    let sts = Script::start([assumed(action, "WEB"), assumed(action, "PROFILE")]).await;
    let home = TestProcess::new()
        .file(".aws/credentials", KEYS_FILE)
        .file("token", "the.web.token\n")
        .set("AWS_ENDPOINT_URL_STS", sts.endpoint());
    let token = home.text("token");
    let config = format!(
        "[profile web]\nrole_arn = arn:aws:iam::1:role/p\nweb_identity_token_file = {token}\n"
    );
    let home = home
        .file(".aws/config", &config)
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .set("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod");
    assert_eq!(home.id().await, "WEB");
    let request = sts.request(0);
    says(
        request.text(),
        &[
            "WebIdentityToken=the.web.token",
            "role%2Fpod",
            "RoleSessionName=landfall",
        ],
    );
    assert_eq!(request.header("authorization"), None);
    let home = home
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", "")
        .set("AWS_PROFILE", "web");
    assert_eq!(home.id().await, "PROFILE");
    let home = home.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
    says(&home.error().await, &["cannot read /nonexistent/token"]);
    let home = home.set("AWS_ROLE_ARN", "");
    says(
        &home.error().await,
        &["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"],
    );
}

const SSO: &str = "[profile dev]\nsso_session = my-sso\nsso_account_id = 123456789011\n\
    sso_role_name = readOnly\n[sso-session my-sso]\nsso_region = us-east-1\n\
    sso_start_url = https://my-sso-portal.awsapps.com/start\n";

fn login(token: &str, expires: &str, refresh: &str) -> String {
    format!(
        r#"{{"startUrl":"https://my-sso-portal.awsapps.com/start","region":"us-east-1",
            "accessToken":"{token}","expiresAt":"{expires}","clientId":"client",
            "clientSecret":"client-secret","refreshToken":"{refresh}","other":1}}"#
    )
}

fn role_keys(id: &str) -> Step {
    let body = format!(
        r#"{{"roleCredentials":{{"accessKeyId":"{id}","secretAccessKey":"S","sessionToken":"T",
            "expiration":1893553445000}}}}"#
    );
    response("200 OK", &[], &body)
}

/// Named by SHA-1 of `my-sso`, as in the AWS tools.
fn login_file(home: &TestProcess) -> String {
    home.text(".aws/sso/cache/0ad374308c5a4e22f723adf10145eafad7c4031c.json")
}

#[tokio::test]
async fn a_login_gives_the_credentials_of_its_role() {
    let portal = Script::start([
        role_keys("SSO"),
        response(
            "401 Unauthorized",
            &[],
            r#"{"message":"Session token not found or invalid"}"#,
        ),
    ])
    .await;
    let home = TestProcess::new()
        .file(".aws/config", SSO)
        .set("AWS_PROFILE", "dev")
        .set("AWS_ENDPOINT_URL_SSO", portal.endpoint());
    let path = login_file(&home);
    let command = "aws sso login --profile dev";
    says(
        &home.error().await,
        &["\"dev\"", ".aws/config", &path, command],
    );
    fs::write(&path, login("the-token", "2035-01-01T00:00:00Z", "")).expect("written");
    assert_eq!(home.id().await, "SSO");
    let request = portal.request(0);
    assert_eq!(
        request.line,
        "GET /federation/credentials?account_id=123456789011&role_name=readOnly HTTP/1.1"
    );
    assert_eq!(request.header("x-amz-sso_bearer_token"), Some("the-token"));
    says(
        &home.error().await,
        &["401", "Session token not found", "readOnly", command],
    );
    fs::write(&path, login("the-token", "2020-01-01T00:00:00Z", "")).expect("written");
    says(&home.error().await, &["expired", &path, command]);
    assert_eq!(portal.requests(), 2);
}

#[tokio::test]
async fn an_expired_login_is_renewed_and_stored() {
    let renewed =
        r#"{"accessToken":"new","expiresIn":28800,"refreshToken":"next","tokenType":"Bearer"}"#;
    let oidc = Script::start([
        response("200 OK", &[], renewed),
        response("400 Bad Request", &[], r#"{"error":"invalid_grant"}"#),
    ])
    .await;
    let portal = Script::start([role_keys("SSO")]).await;
    let home = TestProcess::new()
        .file(".aws/config", SSO)
        .set("AWS_PROFILE", "dev")
        .set("AWS_ENDPOINT_URL_SSO", portal.endpoint())
        .set("AWS_ENDPOINT_URL_SSO_OIDC", oidc.endpoint());
    let path = login_file(&home);
    let old = login("old", "2020-01-01T00:00:00Z", "first");
    fs::write(&path, &old).expect("written");
    assert_eq!(home.id().await, "SSO");
    let asked: serde_json::Value = serde_json::from_slice(&oidc.request(0).body).expect("JSON");
    assert_eq!(
        (
            &asked["grantType"],
            &asked["refreshToken"],
            &asked["clientSecret"]
        ),
        (
            &"refresh_token".into(),
            &"first".into(),
            &"client-secret".into()
        )
    );
    assert_eq!(
        portal.request(0).header("x-amz-sso_bearer_token"),
        Some("new")
    );
    let stored: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("kept")).expect("JSON");
    assert_eq!(
        (
            &stored["accessToken"],
            &stored["refreshToken"],
            &stored["other"]
        ),
        (&"new".into(), &"next".into(), &1.into())
    );
    fs::write(&path, old).expect("written");
    says(
        &home.error().await,
        &["invalid_grant", "aws sso login --profile dev"],
    );
}

#[tokio::test]
async fn containers_ask_their_endpoint_with_the_token() {
    let endpoint = Script::start([
        keys("POD"),
        keys("ECS"),
        response(
            "400 Bad Request",
            &[],
            r#"{"code":"AccessDenied","message":"no association"}"#,
        ),
    ])
    .await;
    let home = TestProcess::new().file("token", "pod-token\n").set(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        format!("{}/v1/credentials?a=b", endpoint.endpoint()),
    );
    let token = home.text("token");
    let home = home.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
    let found = home.find().await;
    assert_eq!(
        (&*found.access_key_id, found.session_token.as_deref()),
        ("POD", Some("T"))
    );
    let request = endpoint.request(0);
    assert_eq!(request.line, "GET /v1/credentials?a=b HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("pod-token"));
    let home = home
        .set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "")
        .set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "ecs-token");
    assert_eq!(home.id().await, "ECS");
    assert_eq!(
        endpoint.request(1).header("authorization"),
        Some("ecs-token")
    );
    says(
        &home.error().await,
        &["400", "no association", &endpoint.endpoint()],
    );
    let home = home.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/");
    says(
        &home.error().await,
        &["AWS_CONTAINER_CREDENTIALS_FULL_URI", "https"],
    );
}

#[tokio::test]
async fn instances_are_asked_with_a_session_token() {
    let text = |body| response("200 OK", &[], body);
    let service = Script::start([
        text("session"),
        text("my-role\n"),
        keys("IMDS"),
        text("session"),
        response("404 Not Found", &[], ""),
    ])
    .await;
    let home = TestProcess::new()
        .set("AWS_EC2_METADATA_DISABLED", "false")
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.endpoint());
    assert_eq!(home.id().await, "IMDS");
    assert_eq!(service.request(0).line, "PUT /latest/api/token HTTP/1.1");
    let path = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(service.request(1).line, format!("GET {path} HTTP/1.1"));
    assert_eq!(
        service.request(2).line,
        format!("GET {path}my-role HTTP/1.1")
    );
    for index in [1, 2] {
        let token = service.request(index);
        assert_eq!(token.header("x-aws-ec2-metadata-token"), Some("session"));
    }
    says(
        &home.error().await,
        &[
            "no credentials found",
            "\"default\"",
            "metadata service",
            "404",
        ],
    );
}

#[tokio::test]
async fn a_silent_metadata_service_times_out() {
    let service = Script::start([Step::Silence]).await;
    let home = TestProcess::new()
        .set("AWS_EC2_METADATA_DISABLED", "")
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.endpoint());
    let chain = home.chain(None);
    tokio::time::pause();
    let error = chain.credentials().await.expect_err("none").to_string();
    says(&error, &["no credentials found", "no response within 5s"]);
}

#[tokio::test]
async fn a_role_may_come_from_the_environment() {
    let sts = Script::start([assumed("AssumeRole", "ROLE")]).await;
    let config = "[default]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = Environment\n";
    let home = TestProcess::new()
        .file(".aws/config", config)
        .set("AWS_ENDPOINT_URL_STS", sts.endpoint());
    says(&home.error().await, &["\"default\"", "AWS_ACCESS_KEY_ID"]);
    let home = home
        .set("AWS_ACCESS_KEY_ID", "ENV")
        .set("AWS_SECRET_ACCESS_KEY", "e");
    let chosen = home.chain(Some("default")).credentials().await;
    assert_eq!(chosen.expect("credentials").access_key_id, "ROLE");
    says(
        sts.request(0).header("authorization").expect("signed"),
        &["Credential=ENV/"],
    );
}
