use std::{collections::HashMap, io::Write as _};

use landfall_objects::{CallLimits, CallSettings, Cloud as _, ErrorKind, ObjectRef};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::*;
use crate::{
    Client, ClientSettings,
    tests::script::{Request, Script, Step, lost, reply},
};

const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const METADATA: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/";

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let pairs: HashMap<_, _> = pairs.collect();
    Arc::new(move |name| pairs.get(name).cloned())
}

fn file(json: &Value) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(json.to_string().as_bytes())
        .expect("written");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("text")
}

fn user() -> NamedTempFile {
    file(
        &json!({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}),
    )
}

fn token(name: &str, lifetime: u64) -> Step {
    let body = json!({"access_token": name, "expires_in": lifetime, "token_type": "Bearer"});
    reply(200, &body.to_string())
}

fn credentials(
    source: CredentialSource,
    script: &Arc<Script>,
    pairs: &[(&str, &str)],
) -> CredentialCache<Source> {
    cache(source, script.clone(), variables(pairs))
}

fn is_transient(error: &BoxError) -> bool {
    let error = error.downcast_ref::<TokenError>();
    error.expect("of a token").is_transient
}

async fn loaded(credentials: &CredentialCache<Source>) -> String {
    let given = credentials
        .get()
        .await
        .expect("credentials")
        .expect("a token");
    given.token.clone().expect("a token").access_token
}

#[tokio::test]
async fn first_source_that_is_there_decides() {
    let (first, second) = (user(), user());
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join(".config/gcloud");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(
        first.path(),
        folder.join("application_default_credentials.json"),
    )
    .expect("copied");
    let home = home.path().to_str().expect("text");
    for (pairs, wanted) in [
        (
            vec![
                ("GCS_SERVICE_ACCOUNT_FILE", path(&first)),
                ("GOOGLE_APPLICATION_CREDENTIALS", "/missing"),
            ],
            TOKEN_URL,
        ),
        (
            vec![
                ("GCS_SERVICE_ACCOUNT_FILE", ""),
                ("GOOGLE_APPLICATION_CREDENTIALS", path(&second)),
            ],
            TOKEN_URL,
        ),
        (vec![("HOME", home)], TOKEN_URL),
        (vec![("HOME", "/missing")], METADATA),
    ] {
        let script = Script::new([token("t", 3600)]);
        let credentials = credentials(CredentialSource::Standard, &script, &pairs);
        assert_eq!(loaded(&credentials).await, "t");
        assert!(script.request(0).url.starts_with(wanted), "{pairs:?}");
    }
    let script = Script::new([]);
    let missing = [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/missing"),
        ("HOME", home),
    ];
    let credentials = credentials(CredentialSource::Standard, &script, &missing);
    let error = credentials.get().await.expect_err("it is named");
    assert!(
        error
            .to_string()
            .starts_with("GOOGLE_APPLICATION_CREDENTIALS: \"/missing\": cannot read the file"),
        "{error:?}"
    );
    assert!(!is_transient(&error));
}

#[tokio::test]
async fn metadata_server_gives_tokens_and_the_name_for_signatures() {
    let script = Script::by(|request: &Request| {
        assert_eq!(request.header("metadata-flavor"), Some("Google"));
        Some(
            match request.url.strip_prefix(
                "http://10.0.0.9/computeMetadata/v1/instance/service-accounts/default/",
            ) {
                Some("email") => reply(200, "robot@project.iam.gserviceaccount.com\n"),
                Some(rest) if rest.starts_with("token?") => token("t", 3600),
                _ => reply(404, ""),
            },
        )
    });
    let pairs = [("GCE_METADATA_HOST", "10.0.0.9")];
    let credentials = credentials(CredentialSource::Standard, &script, &pairs);
    for _ in 0..2 {
        let (signing, _) = for_signing(&credentials).await.expect("an account");
        assert_eq!(
            signing.signer_email.as_deref(),
            Some("robot@project.iam.gserviceaccount.com")
        );
    }
    assert_eq!(script.requests().len(), 3, "the token is kept");
}

#[tokio::test]
async fn external_account_exchanges_the_token_of_its_file() {
    let subject = NamedTempFile::new().expect("a file");
    std::fs::write(subject.path(), "the-subject").expect("written");
    // Without a format, as gcloud writes it.
    let config = file(&json!({
        "type": "external_account", "audience": "//iam/pool", "token_url": "https://sts.googleapis.com/v1/token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": {"file": path(&subject)},
        "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/robot@p.iam.gserviceaccount.com:generateAccessToken",
    }));
    let script = Script::by(|request: &Request| {
        Some(
            match request
                .url
                .starts_with("https://sts.googleapis.com/v1/token")
            {
                true => {
                    assert!(request.text().contains("the-subject"), "{}", request.text());
                    token("of-the-pool", 3600)
                }
                false => {
                    assert_eq!(request.header("authorization"), Some("Bearer of-the-pool"));
                    let body = json!({"accessToken": "of-the-account", "expireTime": "2126-01-01T00:00:00Z"});
                    reply(200, &body.to_string())
                }
            },
        )
    });
    let source = CredentialSource::File(path(&config).to_owned());
    let credentials = credentials(source, &script, &[]);
    assert_eq!(loaded(&credentials).await, "of-the-account");
    let (signing, _) = for_signing(&credentials).await.expect("an account");
    assert_eq!(
        signing.signer_email.as_deref(),
        Some("robot@p.iam.gserviceaccount.com")
    );
}

#[tokio::test]
async fn token_is_renewed_once_before_it_expires() {
    let user = user();
    let source = || CredentialSource::File(path(&user).to_owned());
    let script = Script::new([token("t1", 100), token("t2", 3600)]);
    let tokens = credentials(source(), &script, &[]);
    let (a, b) = tokio::join!(loaded(&tokens), loaded(&tokens));
    assert_eq!(
        (&*a, &*b),
        ("t1", "t2"),
        "one of them renews it, since it ends soon"
    );
    assert_eq!(loaded(&tokens).await, "t2");
    assert_eq!(script.requests().len(), 2);

    let script = Script::new([token("t1", 100), lost()]);
    let tokens = credentials(source(), &script, &[]);
    assert_eq!(loaded(&tokens).await, "t1");
    assert_eq!(loaded(&tokens).await, "t1", "it is usable until then");

    let script = Script::new([token("t1", 10), reply(503, "")]);
    let tokens = credentials(source(), &script, &[]);
    assert_eq!(loaded(&tokens).await, "t1");
    let error = tokens.get().await.expect_err("expired");
    assert!(is_transient(&error), "{error:?}");
}

#[tokio::test]
async fn sentences_say_what_to_do() {
    let user = user();
    let broken =
        file(&json!({"type": "service_account", "private_key": "no key", "client_email": "a@b"}));
    let other = file(&json!({"web": {}}));
    let pairs =
        |file: &NamedTempFile| vec![("GCS_SERVICE_ACCOUNT_FILE".to_owned(), path(file).to_owned())];
    let refused = || {
        reply(
            400,
            r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#,
        )
    };
    for (pairs, step, wanted) in [
        (
            pairs(&user),
            refused(),
            "create a new key, or run `gcloud auth application-default login`",
        ),
        (
            pairs(&broken),
            refused(),
            "download the key of the service account again",
        ),
        (pairs(&other), refused(), "must be a JSON file of Google"),
        (
            vec![],
            reply(404, ""),
            "set GCS_SERVICE_ACCOUNT_FILE or GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (
            vec![],
            lost(),
            "the metadata server metadata.google.internal: metadata.google.internal: the connection was closed",
        ),
    ] {
        let script = Script::new([step]);
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let credentials = credentials(CredentialSource::Standard, &script, &pairs);
        let error = credentials.get().await.expect_err(wanted);
        let message = error.to_string();
        assert!(message.contains(wanted), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

/// Gives tokens with the numbers 1, 2, ….
#[derive(Debug, Default)]
struct Counting(std::sync::atomic::AtomicU32);

#[async_trait]
impl ProvideToken for Counting {
    async fn token(&self) -> Result<AccessToken, BoxError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(AccessToken {
            token: format!("t{number}"),
            expires: Some(SystemTime::now() + Duration::from_secs(3600)),
        })
    }
}

fn client(script: &Arc<Script>, source: CredentialSource, pairs: &[(&str, &str)]) -> Client {
    let settings = ClientSettings {
        credentials: source,
        calls: CallSettings {
            http: Some(script.clone()),
            limits: CallLimits {
                backoff: Duration::from_millis(1),
                attempts: 2,
                ..CallLimits::default()
            },
            ..CallSettings::default()
        },
        ..ClientSettings::default()
    };
    Client::with_variables(settings, variables(pairs)).expect("a client")
}

#[tokio::test]
async fn rejected_token_is_renewed_once() {
    let object = ObjectRef::new("b", "k");
    let found = || reply(200, r#"{"generation":"1","size":"0"}"#);
    let counting = || CredentialSource::Provider(Arc::new(Counting::default()));
    let script = Script::new([reply(401, ""), found(), found()]);
    let one = client(&script, counting(), &[]);
    for _ in 0..2 {
        one.head_object(&object).await.expect("found");
    }
    let sent: Vec<_> = script
        .requests()
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    let wanted = ["Bearer t1", "Bearer t2", "Bearer t2"];
    assert_eq!(sent, wanted.map(|token| Some(token.to_owned())));

    let script = Script::new([reply(401, ""), reply(401, "")]);
    let error = client(&script, counting(), &[])
        .head_object(&object)
        .await
        .expect_err("rejected");
    assert_eq!(*error.kind(), ErrorKind::BadCredentials);
    let debug = format!(
        "{error:?} {:?}",
        AccessToken {
            token: "secret".to_owned(),
            expires: None
        }
    );
    assert!(
        !debug.contains("secret") && !debug.contains("t2"),
        "{debug}"
    );
}

#[tokio::test]
async fn emulator_gets_no_token() {
    let script = Script::new([reply(404, "")]);
    let pairs = [
        ("STORAGE_EMULATOR_HOST", "localhost:9"),
        ("GCS_SERVICE_ACCOUNT_FILE", "/missing"),
    ];
    let client = client(&script, CredentialSource::Standard, &pairs);
    let error = client
        .head_object(&ObjectRef::new("b", "k"))
        .await
        .expect_err("missing");
    assert_eq!(*error.kind(), ErrorKind::NoSuchKey);
    assert!(
        script
            .request(0)
            .url
            .starts_with("http://localhost:9/storage/v1/b/b/o/k?")
    );
    assert_eq!(script.request(0).header("authorization"), None);
}

#[tokio::test]
async fn lost_token_requests_are_repeated_with_the_call() {
    let user = user();
    let source = CredentialSource::File(path(&user).to_owned());
    let script = Script::new([
        reply(503, ""),
        token("t", 3600),
        reply(200, r#"{"generation":"1"}"#),
    ]);
    let found = client(&script, source, &[])
        .head_object(&ObjectRef::new("b", "k"))
        .await;
    assert_eq!(found.expect("found").etag, "\"1\"");
}

#[tokio::test]
async fn missing_and_unreachable_credentials_differ() {
    let user = user();
    let object = ObjectRef::new("b", "k");
    let unavailable = ErrorKind::Unavailable { retry_after: None };
    for (source, kind) in [
        (CredentialSource::File(path(&user).to_owned()), unavailable),
        (CredentialSource::Standard, ErrorKind::BadCredentials),
    ] {
        let script = Script::new([reply(503, ""), lost()]);
        let error = client(&script, source, &[])
            .head_object(&object)
            .await
            .expect_err("no token");
        assert_eq!(*error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn login_of_a_user_cannot_sign() {
    let user = user();
    let script = Script::new([token("t", 3600)]);
    let source = CredentialSource::File(path(&user).to_owned());
    let client = client(&script, source, &[]);
    let lifetime = Duration::from_secs(60);
    let object = ObjectRef::new("b", "k");
    let signed = client
        .presign_download(&object, "a/b", "inline", lifetime)
        .await;
    let error = signed.expect_err("no key");
    assert!(
        error.to_string().contains("use a key of a service account"),
        "{error}"
    );
}

#[tokio::test]
async fn account_of_the_machine_signs_by_the_iam_service() {
    let script = Script::by(|request: &Request| {
        Some(if request.url.ends_with("/default/email") {
            reply(200, "robot@p.iam.gserviceaccount.com")
        } else if request
            .url
            .ends_with("/robot@p.iam.gserviceaccount.com:signBlob")
        {
            assert_eq!(request.header("authorization"), Some("Bearer t"));
            reply(200, r#"{"signedBlob":"AQID"}"#)
        } else {
            token("t", 3600)
        })
    });
    let client = client(&script, CredentialSource::Standard, &[]);
    let object = ObjectRef::new("b", "a/k");
    let lifetime = Duration::from_secs(60);
    let url = client
        .presign_download(&object, "a/b", "inline", lifetime)
        .await
        .expect("signed");
    assert!(
        url.starts_with(
            "https://storage.googleapis.com/b/a/k?response-content-disposition=inline&"
        ),
        "{url}"
    );
    assert!(
        url.contains("X-Goog-Expires=60") && url.ends_with("&X-Goog-Signature=010203"),
        "{url}"
    );
    assert_eq!(script.requests().len(), 3);
}

#[tokio::test]
async fn the_source_of_tokens_is_named() {
    let user = user();
    let key = file(&json!({"type": "service_account", "client_email": "a@b"}));
    let script = Script::new([]);
    for (file, wanted) in [
        (&user, "login of a user; "),
        (&key, "key of the service account a@b; "),
    ] {
        let pairs = [("GOOGLE_APPLICATION_CREDENTIALS", path(file))];
        let source = credentials(CredentialSource::Standard, &script, &pairs);
        let place = format!("GOOGLE_APPLICATION_CREDENTIALS: {}", path(file));
        assert_eq!(super::source(&source).await, format!("{wanted}{place}"));
    }
    let none = credentials(CredentialSource::Anonymous, &script, &[]);
    assert!(super::source(&none).await.contains("STORAGE_EMULATOR_HOST"));
}
