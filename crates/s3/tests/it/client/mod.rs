//! The client's operations on real services, and with faults.

mod aws;
mod buckets;
mod errors;
mod faults;
mod multipart;
mod objects;
mod post_policy;
mod presigned;
mod sts;

use landfall_s3::client::{Client, CredentialSource, Credentials, ObjectRef};
use landfall_test_services::{Access, Ceph, Garage, Moto, S3s};

use crate::support;

/// A fresh bucket on a service.
pub(crate) struct Bucket {
    pub(crate) access: Access,
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Bucket {
    fn garage() -> Self {
        Self::new(Garage::shared().access(), Garage::shared().bucket("client"))
    }

    fn moto() -> Self {
        Self::new(Moto::shared().access(), Moto::shared().bucket("client"))
    }

    fn ceph() -> Self {
        Self::new(Ceph::shared().access(), Ceph::shared().bucket("client"))
    }

    fn s3s() -> Self {
        Self::new(S3s::shared().access(), S3s::shared().bucket("client"))
    }

    fn new(access: Access, name: String) -> Self {
        Self {
            client: support::client(&access),
            access,
            name,
        }
    }

    fn object_ref(&self, key: &str) -> ObjectRef {
        ObjectRef::new(&self.name, key)
    }
}

/// A client with a session token.
fn with_token(access: &Access, token: &str) -> Client {
    let mut settings = support::settings(access);
    let mut credentials = Credentials::new(&access.access_key, &access.secret_key);
    credentials.session_token = Some(token.to_owned());
    settings.credentials = CredentialSource::Static(credentials);
    Client::new(settings).unwrap()
}

/// Runs each test on the service.
macro_rules! on {
    ($module:ident, $service:ident: $($test:ident),* $(,)?) => {
        mod $module {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::client::Bucket::$service()).await;
            })*
        }
    };
}
use on;

/// Runs each test on the services.
macro_rules! on_each {
    ($($test:ident),* $(,)?) => {
        crate::client::on!(on_garage, garage: $($test),*);
        crate::client::on!(on_moto, moto: $($test),*);
        crate::client::on!(on_ceph, ceph: $($test),*);
    };
}
use on_each;

/// Runs each test on the services that verify signatures; moto does not.
macro_rules! where_verified {
    ($($test:ident),* $(,)?) => {
        crate::client::on!(garage_verifies, garage: $($test),*);
        crate::client::on!(ceph_verifies, ceph: $($test),*);
        crate::client::on!(s3s_verifies, s3s: $($test),*);
    };
}
use where_verified;
