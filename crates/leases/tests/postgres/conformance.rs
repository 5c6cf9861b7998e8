//! The conformance suites of lockers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use landfall::lease::Locker;
use landfall_leases::LeaseSettings;
use landfall_test_services::{Fault, FaultProxy};
use landfall_testkit::locker::{Cluster, FaultyNode};

use crate::{database, node, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn within_one_node() {
    let settings = LeaseSettings::postgres();
    landfall_testkit::locker::conformance(async || node(&database(), &settings).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_two_nodes() {
    let settings = quick();
    let make = async || {
        let url = database();
        (node(&url, &settings).await, node(&url, &settings).await)
    };
    landfall_testkit::locker::conformance_between(make, Duration::from_millis(200)).await;
}

#[derive(Debug)]
struct PostgresCluster {
    url: String,
    settings: LeaseSettings,
}

#[async_trait]
impl Cluster for PostgresCluster {
    fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    async fn node(&self) -> Arc<dyn Locker> {
        Arc::new(node(&self.url, &self.settings).await)
    }

    async fn faulty_nodes(&self) -> Vec<FaultyNode> {
        let mut nodes = Vec::new();
        for fault in Fault::ALL {
            let (proxy, url) = FaultProxy::to_server_of(&self.url);
            nodes.push(FaultyNode {
                locker: Arc::new(node(&url, &self.settings).await),
                fault: format!("{fault:?}"),
                is_delay: fault.is_delay(),
                set: Box::new(move |is_on| proxy.set(if is_on { fault } else { Fault::None })),
            });
        }
        nodes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_cluster() {
    let make = async |ttl| {
        let mut settings = LeaseSettings::postgres();
        settings.ttl = ttl;
        settings.timeout = ttl / 2;
        let url = database();
        PostgresCluster { url, settings }
    };
    landfall_testkit::locker::conformance_in_cluster(make).await;
}
