//! URLs of AWS: bucket and region in the host name.
//!
//! moto serves all of these hosts; the transport redirects every request to it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri, header::HOST, uri::Authority};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client as Plain, connect::HttpConnector},
    rt::TokioExecutor,
};
use landfall::BoxError;
use landfall_objects::Cloud as _;
use landfall_s3::client::{
    CallSettings, Client, ClientSettings, Condition, CredentialSource, Credentials, HttpSend,
    ObjectHeaders, ObjectRef, Payload, PayloadBody, ResponseBody,
};
use landfall_test_services::Moto;

/// Sends all requests to one server, whatever their host.
#[derive(Debug)]
struct Detour {
    to: Authority,
    hosts: std::sync::Mutex<Vec<String>>,
    client: Plain<HttpConnector, PayloadBody>,
}

#[async_trait]
impl HttpSend for Detour {
    async fn send(
        &self,
        mut request: Request<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        let host = request.headers()[HOST].to_str()?.to_owned();
        assert_eq!(
            request.uri().authority().map(Authority::as_str),
            Some(host.as_str())
        );
        self.hosts.lock().unwrap().push(host);
        let mut parts = request.uri().clone().into_parts();
        parts.authority = Some(self.to.clone());
        *request.uri_mut() = Uri::from_parts(parts)?;
        let answer = self.client.request(request).await?;
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

async fn hosts(bucket: &str, settings: ClientSettings) -> Vec<String> {
    let access = Moto::shared().access();
    let detour = Arc::new(Detour {
        to: access.authority().parse().unwrap(),
        hosts: std::sync::Mutex::default(),
        client: Plain::builder(TokioExecutor::new()).build_http(),
    });
    let http: Option<Arc<dyn HttpSend>> = Some(detour.clone());
    let client = Client::new(ClientSettings {
        region: Some("us-east-1".to_owned()),
        credentials: CredentialSource::Static(Credentials::new("id", "secret")),
        disable_ssl: true,
        calls: CallSettings {
            http,
            ..CallSettings::default()
        },
        ..settings
    })
    .unwrap();
    let object_ref = ObjectRef::new(bucket, "folder/a b+ü");
    let payload = Payload::from(Bytes::from_static(b"hello"));
    let object = ObjectHeaders::default();
    client
        .put_object(&object_ref, payload, &object, Condition::None)
        .await
        .unwrap();
    let object = client.get_object(&object_ref, Some(1..3)).await.unwrap();
    assert_eq!(object.bytes(2).await.unwrap(), "el");
    client.head_bucket(bucket).await.unwrap();
    let page = client
        .list_objects(bucket, "folder/", None, 10)
        .await
        .unwrap();
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.objects[0].key, object_ref.key);
    let mut hosts = std::mem::take(&mut *detour.hosts.lock().unwrap());
    assert_eq!(hosts.len(), 4);
    hosts.dedup();
    hosts
}

#[tokio::test]
async fn virtual_hosted_style_puts_bucket_in_host() {
    let bucket = Moto::shared().bucket("hosted");
    let hosts = hosts(&bucket, ClientSettings::default()).await;
    assert_eq!(hosts, [format!("{bucket}.s3.us-east-1.amazonaws.com")]);
}

#[tokio::test]
async fn path_style_puts_bucket_in_path() {
    let bucket = Moto::shared().bucket("in-path");
    let settings = ClientSettings {
        path_style: Some(true),
        ..ClientSettings::default()
    };
    assert_eq!(
        hosts(&bucket, settings).await,
        ["s3.us-east-1.amazonaws.com"]
    );
}

#[tokio::test]
async fn accelerate_uses_the_accelerate_host() {
    let bucket = Moto::shared().bucket("accelerated");
    let settings = ClientSettings {
        accelerate: true,
        ..ClientSettings::default()
    };
    let hosts = hosts(&bucket, settings).await;
    assert_eq!(hosts, [format!("{bucket}.s3-accelerate.amazonaws.com")]);
}
