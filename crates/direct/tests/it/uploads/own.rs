//! Keys of a caller's own: Uppy's signer mode, and temporary credentials.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use landfall::event::EventKind;
use landfall_direct::{Act, Asked, Direct, DirectError, Standing, StsSettings, Way, Who};
use landfall_grants::Principal;
use landfall_s3::client::{
    Client, Condition, CredentialSource, Credentials, ObjectHeaders, Payload, ObjectRef,
};

use crate::{books::site::Place as Database, sweep::site::World};

use super::site::{
    LONG, MIB, Service, Site, alice, is_conflict, is_gone, on_both, pattern, send, settings, who,
};

on_both!(
    a_put_that_its_client_named,
    a_multipart_upload_of_the_clients_own,
    too_much_is_not_completed,
    a_type_that_is_not_welcome,
    a_completion_that_takes_a_while,
);

fn asked(way: Way, key: &str) -> Asked {
    let mut asked = Asked::new(way, key);
    asked.key = Some(key.into());
    asked
}

async fn a_put_that_its_client_named(service: Service) {
    let site = Site::on(service).await;
    let record = site
        .open(&alice(), asked(Way::Put, "1-a.txt"))
        .await
        .unwrap();
    let prefix = site.direct.own_prefix("alice");
    assert_eq!(record.place.key, format!("{prefix}1-a.txt"));
    // The client may call it by either name, and ask again.
    for key in ["1-a.txt", &*record.place.key] {
        let again = site.open(&alice(), asked(Way::Put, key)).await;
        if key == "1-a.txt" {
            assert_eq!(again.unwrap().id(), record.id());
        }
        let found = site.direct.find(&alice(), key, None).await.unwrap();
        assert_eq!(found.id(), record.id());
        let found = site.direct.find(&who("bob"), key, None).await;
        assert!(matches!(found, Err(DirectError::NotFound)));
    }
    let other = site
        .open(&alice(), asked(Way::SignedMultipart, "1-a.txt"))
        .await;
    assert!(is_conflict(&other.unwrap_err()));
    let put = site.direct.put(&record, LONG, false).await.unwrap();
    assert!(put.headers.is_empty(), "{:?}", put.headers);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-own"));
    let sent = send(Method::PUT, &put.url, &headers, "hello").await;
    assert_eq!(sent.0, 200, "{sent:?}");
    assert_eq!(site.check(&record).await.unwrap().size, 5);
    // What is complete makes room for another one, which isn't there yet.
    let next = site
        .open(&alice(), asked(Way::Put, "1-a.txt"))
        .await
        .unwrap();
    assert_ne!(next.id(), record.id());
    assert!(matches!(site.check(&next).await, Err(DirectError::NotYet)));
    for bad in ["../x", "a//b", "", "a/./b"] {
        let error = site.open(&alice(), asked(Way::Put, bad)).await.unwrap_err();
        assert!(matches!(error, DirectError::Bad { .. }), "{error}");
    }
}

/// As Uppy's client does it: begins with a signed request; gives the multipart upload's id.
async fn begin(direct: &Direct, record: &landfall_direct::Record) -> String {
    let url = direct.sign(record, Act::Begin).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-own"));
    let (status, _, body) = send(Method::POST, &url, &headers, "").await;
    assert_eq!(status, 200, "{body:?}");
    let body = String::from_utf8(body.to_vec()).unwrap();
    let id = body.split("<UploadId>").nth(1).unwrap();
    id.split("</UploadId>").next().unwrap().to_owned()
}

async fn a_multipart_upload_of_the_clients_own(service: Service) {
    let site = Site::on(service).await;
    let bytes = pattern(3, 6 * MIB);
    let record = site
        .open(&alice(), asked(Way::SignedMultipart, "1-b.bin"))
        .await
        .unwrap();
    assert_eq!(
        (record.standing, &record.multipart),
        (Standing::Open, &None)
    );
    let id = begin(&site.direct, &record).await;
    for (who, id) in [(who("bob"), &*id), (alice(), "made-up")] {
        let found = site.direct.find(&who, "1-b.bin", Some(id)).await;
        assert!(matches!(found, Err(DirectError::NotFound)), "{found:?}");
    }
    let record = site
        .direct
        .find(&alice(), "1-b.bin", Some(&id))
        .await
        .unwrap();
    assert_eq!(record.multipart.as_deref(), Some(&*id));
    assert_eq!(site.now(&record).await.multipart.as_deref(), Some(&*id));
    let mut etags = Vec::new();
    for (number, part) in [(1, bytes.slice(..5 * MIB)), (2, bytes.slice(5 * MIB..))] {
        let url = site.direct.sign(&record, Act::Part(number)).await.unwrap();
        let (status, headers, body) = send(Method::PUT, &url, &HeaderMap::new(), part).await;
        assert_eq!(status, 200, "{body:?}");
        etags.push(headers["etag"].to_str().unwrap().to_owned());
    }
    let url = site.direct.sign(&record, Act::List).await.unwrap();
    let (status, _, body) = send(Method::GET, &url, &HeaderMap::new(), "").await;
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains("<PartNumber>2</PartNumber>"));
    assert!(matches!(
        site.check(&record).await,
        Err(DirectError::NotYet)
    ));
    let url = site.direct.sign(&record, Act::Complete).await.unwrap();
    let parts = etags.iter().zip(1..).map(|(etag, number)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    });
    let xml = format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</CompleteMultipartUpload>",
        parts.collect::<String>()
    );
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    let (status, _, body) = send(Method::POST, &url, &headers, xml).await;
    assert_eq!(status, 200, "{body:?}");
    let done = site.check(&record).await.unwrap();
    assert_eq!(done.size, 6 * MIB as u64);
    assert_eq!(
        site.told(&record),
        [EventKind::Created, EventKind::Completed]
    );
}

/// A service may end the multipart upload a moment before it shows the object.
async fn a_completion_that_takes_a_while(service: Service) {
    let site = Site::on(service).await;
    for is_completed in [true, false] {
        let key = format!("{is_completed}.bin");
        let asked = asked(Way::SignedMultipart, &key);
        let record = site.open(&alice(), asked).await.unwrap();
        let id = begin(&site.direct, &record).await;
        let record = site.direct.find(&alice(), &key, Some(&id)).await.unwrap();
        site.send_part(&record, 1, "hello".into()).await;
        if is_completed {
            site.direct.sign(&record, Act::Complete).await.unwrap();
        }
        let ended = site.client.abort_multipart(&record.place, &id);
        ended.await.unwrap();
        let early = site.check(&record).await.unwrap_err();
        if !is_completed {
            // Its client has aborted it.
            assert!(is_gone(&early), "{early}");
            continue;
        }
        assert!(matches!(early, DirectError::NotYet), "{early}");
        assert_eq!(site.now(&record).await.standing, Standing::Open);
        let payload = Payload::from(bytes::Bytes::from_static(b"hello"));
        let (plain, always) = (ObjectHeaders::default(), Condition::None);
        let shown = site
            .client
            .put_object(&record.place, payload, &plain, always);
        shown.await.unwrap();
        let done = site.check(&record).await.unwrap();
        assert_eq!(done.size, 5);
        assert!(!done.record.upload.storage.contains_key("Completes"));
    }
}

async fn too_much_is_not_completed(service: Service) {
    let site = Site::on(service).await;
    let mut caller = Principal::new("alice");
    caller.limits.max_size = Some(4);
    let alice = Who::Principal(caller);
    let record = site
        .open(&alice, asked(Way::SignedMultipart, "1-c.bin"))
        .await
        .unwrap();
    let id = begin(&site.direct, &record).await;
    let record = site
        .direct
        .find(&alice, "1-c.bin", Some(&id))
        .await
        .unwrap();
    site.send_part(&record, 1, "hello".into()).await;
    let error = site.direct.sign(&record, Act::Complete).await.unwrap_err();
    assert!(
        matches!(error, DirectError::TooLarge { stored: 5, most: 4 }),
        "{error}"
    );
    site.assert_nothing_of(&record).await;
    // Begun and not shown to anybody, it goes as well.
    let record = site
        .open(&alice, asked(Way::SignedMultipart, "1-d.bin"))
        .await
        .unwrap();
    begin(&site.direct, &record).await;
    site.cancel(&record).await.unwrap();
    site.assert_nothing_of(&record).await;
}

async fn a_type_that_is_not_welcome(service: Service) {
    let site = Site::on(service).await;
    let mut caller = Principal::new("alice");
    caller.limits.allowed_types = vec!["image/*".into(), "text/plain".into()];
    let alice = Who::Principal(caller);
    for (key, sent, is_welcome) in [
        ("1-a.png", "image/webp; a=b", true),
        ("2-a.png", "text/html", false),
    ] {
        let record = site.open(&alice, asked(Way::Put, key)).await.unwrap();
        let put = site.direct.put(&record, LONG, false).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sent));
        let (status, _, body) = send(Method::PUT, &put.url, &headers, "hello").await;
        assert_eq!(status, 200, "{body:?}");
        let done = site.check(&record).await;
        assert_eq!(done.is_ok(), is_welcome, "{done:?}");
        if let Err(error) = done {
            assert!(
                is_gone(&error) && error.to_string().contains("text/html"),
                "{error}"
            );
            site.assert_nothing_of(&record).await;
        }
    }
    let error = site
        .open(&alice, asked(Way::Put, "a.html"))
        .await
        .unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
}

async fn same_prefix_on_all_nodes(place: Database) {
    let world = World::new(Service::Moto, place);
    let (one, other) = tokio::join!(world.node(), world.node());
    let prefix = one.direct.own_prefix("alice");
    assert_eq!(other.direct.own_prefix("alice"), prefix);
    let restarted = world.node().await;
    assert_eq!(restarted.direct.own_prefix("alice"), prefix);
    // At least 128 bits, so that no subject can be searched for that has the same prefix.
    let digits = prefix.strip_prefix("own/").unwrap().trim_end_matches('/');
    assert!(digits.len() >= 32, "{prefix}");
    assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    // Nobody can compute it without the secret of the installation.
    let elsewhere = World::new(Service::Moto, Database::sqlite()).node().await;
    assert_ne!(elsewhere.direct.own_prefix("alice"), prefix);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_have_the_same_prefixes_and_nobody_else() {
    same_prefix_on_all_nodes(Database::sqlite()).await;
    #[cfg(feature = "postgres")]
    same_prefix_on_all_nodes(Database::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_credentials_of_the_user() {
    temporary_credentials(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_credentials_of_a_role() {
    temporary_credentials(Some("arn:aws:iam::123456789012:role/uploads")).await;
}

async fn temporary_credentials(role: Option<&str>) {
    let endpoint = Service::Moto.access().endpoint;
    let site = Site::with(Service::Moto, |settings| {
        settings.sts = Some(StsSettings {
            endpoint: Some(endpoint),
            role: role.map(Into::into),
            lifetime: Duration::from_secs(3600),
        });
    })
    .await;
    let own = site.direct.credentials(&alice()).await.unwrap();
    assert_eq!(own.prefix, site.direct.own_prefix("alice"));
    assert_eq!((&*own.bucket, &*own.region), (&*site.bucket, "us-east-1"));
    let given = own.credentials;
    let mut credentials = Credentials::new(given.access_key_id, given.secret_access_key);
    credentials.session_token = Some(given.session_token);
    let mut settings = settings(&site.access);
    settings.credentials = CredentialSource::Static(credentials);
    let client = Client::new(settings).unwrap();
    let place = ObjectRef::new(own.bucket, format!("{}x", own.prefix));
    let payload = Payload::from(bytes::Bytes::from_static(b"hello"));
    let (plain, always) = (ObjectHeaders::default(), Condition::None);
    let written = client.put_object(&place, payload, &plain, always);
    written.await.unwrap();

    let mut caller = Principal::new("alice");
    caller.limits.max_size = Some(4);
    let error = site
        .direct
        .credentials(&Who::Principal(caller))
        .await
        .unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
    let (grant, _) = site.grant(None, None).await;
    let error = site.direct.credentials(&grant).await.unwrap_err();
    assert!(matches!(error, DirectError::Policy(_)), "{error}");
    let off = Site::on(Service::Moto).await;
    let error = off.direct.credentials(&alice()).await.unwrap_err();
    assert!(matches!(error, DirectError::NotFound), "{error}");
}
