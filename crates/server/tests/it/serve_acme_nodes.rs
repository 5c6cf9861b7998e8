//! Nodes that share their certificate in a database.

use std::path::Path;
use std::process::Command;

use landfall_test_services::Postgres;
use rustls::pki_types::CertificateDer;

use crate::serve_acme::{Ports, Site, YEAR, connect};
use crate::serve_harness::{Landfall, eventually, program};

const NAME: &str = "landfall.test";

/// The certificate is renewed after two thirds of it.
const VALIDITY: u32 = 45;

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

    fn renews_after_a_kill(&self, url: &str) {
        let [first, second] = self.start_both();
        let old = self.certificate(1);
        first.kill();
        // The test does not wait for the end of the lease.
        let expire = "UPDATE acme_certificates SET lease_expires_at = 0";
        Postgres::shared().query(url, expire);
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

fn on_database(url: &str) -> impl Fn(&Path) -> Command + use<> {
    let database = format!("-database={url}");
    move |dir| {
        let mut command = program();
        command.arg(&database).arg("-upload-dir").arg(dir);
        command
    }
}

#[test]
fn nodes_that_share_a_database_order_once_and_renew_for_each_other() {
    let url = Postgres::shared().database("acme");
    Nodes::new(VALIDITY, on_database(&url)).renews_after_a_kill(&url);
}

#[test]
fn a_database_gets_the_certificate_that_its_node_has_already() {
    let url = Postgres::shared().database("acme_later");
    let nodes = Nodes::new(YEAR, on_database(&url));
    let alone = nodes
        .site
        .start_with(nodes.site.ports, nodes.dirs[0].path(), NAME, &[]);
    alone.says("certificate in use");
    let roots = nodes.site.roots();
    let certificate = connect(nodes.site.ports.https(), NAME, &roots).unwrap().1;
    alone.stop();
    let first = nodes.start(0);
    // Otherwise the second one may be the one that orders.
    let query = |sql| Postgres::shared().query(&url, sql);
    eventually("its certificate is not in the database", || {
        !query("SELECT to_regclass('acme_certificates')")
            .trim()
            .is_empty()
            && query("SELECT COUNT(certificate) FROM acme_certificates").trim() == "1"
    });
    let second = nodes.start(1);
    second.says("certificate in use");
    assert_eq!(nodes.certificate(1), certificate);
    assert_eq!([&first, &second].map(orders), [0, 0]);
    first.stop();
    second.stop();
}

#[test]
fn nodes_that_do_not_share_their_certificate_are_told_so() {
    let site = Site::new(YEAR);
    let server = site.start_with(site.ports, site.dir.path(), NAME, &["-lease=store"]);
    server.says("Nodes do not share the certificate");
    server.stop();
}
