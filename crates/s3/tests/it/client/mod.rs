//! The client's operations on the services, and through faults.

mod aws;
mod buckets;
mod faults;
mod forms;
mod multipart;
mod objects;
mod plain;
mod presigned;
mod refusals;
mod tokens;

use landfall_s3::client::{Client, CredentialSource, Credentials, Place};
use landfall_test_services::{Access, Garage, Moto, S3s};

use crate::support;

/// A fresh bucket on a service.
pub(crate) struct Bucket {
    pub(crate) access: Access,
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Bucket {
    fn garage() -> Self {
        Self::of(Garage::shared().access(), Garage::shared().bucket("client"))
    }

    fn moto() -> Self {
        Self::of(Moto::shared().access(), Moto::shared().bucket("client"))
    }

    fn s3s() -> Self {
        Self::of(S3s::shared().access(), S3s::shared().bucket("client"))
    }

    fn of(access: Access, name: String) -> Self {
        Self {
            client: support::client(&access),
            access,
            name,
        }
    }

    fn place(&self, key: &str) -> Place {
        Place::new(&self.name, key)
    }
}

/// A client whose keys come with a token.
fn with_token(access: &Access, token: &str) -> Client {
    let mut settings = support::settings(access);
    let mut credentials = Credentials::new(&access.access_key, &access.secret_key);
    credentials.session_token = Some(token.to_owned());
    settings.credentials = CredentialSource::Static(credentials);
    Client::new(settings).unwrap()
}

/// Each test once on the service.
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

/// Each test once on either service.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        crate::client::on!(on_garage, garage: $($test),*);
        crate::client::on!(on_moto, moto: $($test),*);
    };
}
use on_both;

/// Each test on the services that look at signatures; moto takes any.
macro_rules! where_verified {
    ($($test:ident),* $(,)?) => {
        crate::client::on!(garage_verifies, garage: $($test),*);
        crate::client::on!(s3s_verifies, s3s: $($test),*);
    };
}
use where_verified;
