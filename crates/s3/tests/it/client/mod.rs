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

use landfall_s3::client::{Client, Place};
use landfall_test_services::{Access, Garage, Moto};

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

/// Each test once on either service.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_garage {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::client::Bucket::garage()).await;
            })*
        }
        mod on_moto {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::client::Bucket::moto()).await;
            })*
        }
    };
}
use on_both;
