//! Nodes that share their certificate in a bucket or in Redis.

use std::path::Path;
use std::process::Command;

use http::StatusCode;
use landfall_test_services::Redis;
use rustls::pki_types::CertificateDer;

use crate::s3_harness::Bucket;
use crate::serve_acme::{Ports, Site, YEAR, connect};
use crate::serve_harness::{Landfall, Request, eventually, program};

const NAME: &str = "landfall.test";

/// Longer than the lease of a dead node: the certificate is renewed after two thirds of it.
const VALIDITY: u32 = 75;

/// Two nodes, and an authority that only reaches the second one.
struct Nodes<'a> {
    site: Site,
    ports: [Ports; 2],
    dirs: [tempfile::TempDir; 2],
    command: Box<dyn Fn(&Path) -> Command + 'a>,
}

impl<'a> Nodes<'a> {
    fn new(validity: u32, command: impl Fn(&Path) -> Command + 'a) -> Self {
        let site = Site::new(validity);
        Self {
            ports: [Ports::new(), site.ports],
            dirs: [(); 2].map(|()| tempfile::tempdir().unwrap()),
            command: Box::new(command),
            site,
        }
    }

    fn start(&self, node: usize) -> Landfall {
        let dir = self.dirs[node].path();
        let command = (self.command)(dir);
        self.site.spawn(command, self.ports[node], dir, NAME)
    }

    /// Starts both. The first one orders.
    fn start_both(&self) -> [Landfall; 2] {
        let first = self.start(0);
        first.says("ordering a certificate");
        let second = self.start(1);
        for server in [&first, &second] {
            server.says("certificate in use");
        }
        assert_eq!(self.certificate(0), self.certificate(1));
        assert_eq!([&first, &second].map(orders), [1, 0]);
        [first, second]
    }

    fn certificate(&self, node: usize) -> CertificateDer<'static> {
        let address = self.ports[node].https();
        connect(address, NAME, &self.site.roots()).unwrap().1
    }

    fn renews_after_a_kill(&self) {
        let [first, second] = self.start_both();
        let old = self.certificate(1);
        first.kill();
        eventually("the other node does not renew", || {
            self.certificate(1) != old
        });
        // It starts with its old certificate, and gets the new one.
        let first = self.start(0);
        eventually("the new certificate is not copied", || {
            self.certificate(0) == self.certificate(1)
        });
        assert_eq!([&first, &second].map(orders), [0, 1]);
        for server in [first, second] {
            assert!(!server.log().contains("PRIVATE KEY"));
            server.stop();
        }
    }
}

fn orders(server: &Landfall) -> usize {
    server.log().matches("ordering a certificate").count()
}

fn on_bucket(bucket: &Bucket) -> impl Fn(&Path) -> Command {
    |dir| {
        let mut command = bucket.command(&["serve", "-lease=store"]);
        command.arg("-state-dir").arg(dir);
        command
    }
}

fn on_redis(redis: &Redis) -> impl Fn(&Path) -> Command + use<> {
    let lease = format!("-lease={}", redis.url());
    move |dir| {
        let mut command = program();
        command.arg(&lease).arg("-upload-dir").arg(dir);
        command
    }
}

#[test]
fn nodes_that_share_a_bucket_order_once_and_renew_for_each_other() {
    let bucket = Bucket::on_moto();
    Nodes::new(VALIDITY, on_bucket(&bucket)).renews_after_a_kill();
}

#[test]
fn nodes_that_share_redis_order_once_and_renew_for_each_other() {
    let redis = Redis::start();
    Nodes::new(VALIDITY, on_redis(&redis)).renews_after_a_kill();
}

#[test]
fn no_command_takes_the_certificate_in_a_bucket_for_an_upload() {
    let bucket = Bucket::on_moto();
    let nodes = Nodes::new(YEAR, on_bucket(&bucket));
    let [first, second] = nodes.start_both();
    let keys = bucket.keys().into_keys();
    let key = keys.filter(|key| key.ends_with("certificate.json"));
    let key = key.collect::<Vec<_>>().concat();
    assert!(key.starts_with(".landfall/acme/localhost-"), "{key}");

    let (mut client, _) = connect(nodes.ports[0].https(), NAME, &nodes.site.roots()).unwrap();
    let path = format!("/files/{}", key.replace('/', "%2F"));
    for path in [path, format!("/files/{key}")] {
        let response = client.ask(Request::get(&path));
        assert_eq!(response.status, StatusCode::NOT_FOUND.as_u16(), "{path}");
    }
    first.stop();
    second.stop();
    for command in [&["sweep"][..], &["doctor", "s3"]] {
        let output = bucket.command(command).output().unwrap();
        let output = [output.stdout, output.stderr].concat();
        let output = String::from_utf8(output).unwrap();
        assert!(!output.contains("acme"), "{output}");
    }
    assert!(bucket.object(&key).is_some());
}

#[test]
fn a_service_that_lost_its_data_gets_the_certificate_again() {
    let mut redis = Redis::start();
    let mut nodes = Nodes::new(YEAR, on_redis(&redis));
    let [first, second] = nodes.start_both();
    let certificate = nodes.certificate(0);
    second.stop();
    redis.restart();
    nodes.dirs[1] = tempfile::tempdir().unwrap();
    let second = nodes.start(1);
    eventually("the certificate is lost", || {
        connect(nodes.ports[1].https(), NAME, &nodes.site.roots()).is_ok()
    });
    assert_eq!(nodes.certificate(1), certificate);
    assert_eq!([&first, &second].map(orders), [1, 0]);
    first.stop();
    second.stop();
}
