//! Pebble, the ACME authority of Let's Encrypt for tests, with its DNS server.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{
    folder::Folder,
    process::{Process, StopSignal, find},
};

/// An ACME authority. All names lead to 127.0.0.1, and no nonces are rejected, unless a test asks for it. Ends when
/// it is dropped, or with this process.
#[derive(Debug)]
pub struct Pebble {
    // Before the folder: fields are dropped in this order.
    process: Option<Process>,
    _dns: Process,
    folder: Folder,
    dns_port: u16,
    dns_management: u16,
    port: u16,
    management: u16,
    rejected_nonces: u8,
}

impl Pebble {
    /// Starts one, which takes a second. It validates names on these ports, and its certificates are valid for
    /// some seconds.
    ///
    /// # Panics
    ///
    /// When Pebble is not installed or does not start.
    #[must_use]
    pub fn start(http_port: u16, tls_port: u16, validity: u32) -> Self {
        let folder = Folder::new();
        issue(folder.path());
        let (mut dns, [dns_port, dns_management]) =
            Process::start("pebble-challtestsrv", StopSignal::Kill, |_, ports| {
                let [dns, management] = ports.map(|port| format!("127.0.0.1:{port}"));
                let mut command = Command::new(find("pebble-challtestsrv", Path::new("/usr/bin")));
                command.args(["-dns01", &dns, "-management", &management]);
                command.args(["-http01=", "-https01=", "-tlsalpn01=", "-defaultIPv6="]);
                command
            });
        dns.wait_for(dns_management);
        let (mut process, [port, management]) =
            Process::start("Pebble", StopSignal::Kill, |_, [port, management]| {
                configure(
                    folder.path(),
                    [port, management, http_port, tls_port],
                    validity,
                );
                pebble(folder.path(), dns_port, 0)
            });
        process.wait_for(management);
        Self {
            process: Some(process),
            _dns: dns,
            folder,
            dns_port,
            dns_management,
            port,
            management,
            rejected_nonces: 0,
        }
    }

    /// The URL of the directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The port of the directory.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate and the key (PEM) of the directory, for a proxy on `localhost`.
    #[must_use]
    pub fn server_files(&self) -> [PathBuf; 2] {
        ["server.pem", "server.key"].map(|name| self.folder.path().join(name))
    }

    /// The authority (PEM) of the directory's own certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// The port of HTTPS where `/roots/0` is the authority (PEM) of certificates.
    #[must_use]
    pub fn management_port(&self) -> u16 {
        self.management
    }

    /// Resolves a name to another address.
    ///
    /// # Panics
    ///
    /// When the DNS server rejects it.
    pub fn resolve(&self, name: &str, address: Ipv4Addr) {
        let body = format!(r#"{{"host":"{name}.","addresses":["{address}"]}}"#);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.dns_management)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /add-a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Rejects `percent` of all nonces from now on, at random, as authorities do. Restarts.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn reject_nonces(&mut self, percent: u8) {
        self.rejected_nonces = percent;
        self.restart();
    }

    /// Kills it. It forgets accounts and certificates.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, with another authority.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        let process = Process::start_on("Pebble", StopSignal::Kill, self.port, |_| {
            pebble(self.folder.path(), self.dns_port, self.rejected_nonces)
        });
        let mut process = process.expect("Pebble did not start again");
        process.wait_for(self.management);
        self.process = Some(process);
    }
}

fn configure(folder: &Path, [port, management, http_port, tls_port]: [u16; 4], validity: u32) {
    let text = serde_json::json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": folder.join("server.pem"),
        "privateKey": folder.join("server.key"),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "certificateValidityPeriod": validity,
    }});
    fs::write(folder.join("pebble.json"), text.to_string()).unwrap();
}

fn pebble(folder: &Path, dns_port: u16, rejected_nonces: u8) -> Command {
    let mut command = Command::new(find("pebble", Path::new("/usr/bin")));
    command.arg("-config").arg(folder.join("pebble.json"));
    command.args(["-strict", "-dnsserver", &format!("127.0.0.1:{dns_port}")]);
    command.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")]);
    command.env("PEBBLE_WFE_NONCEREJECT", rejected_nonces.to_string());
    command
}

/// Issues the certificate of the directory.
fn issue(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::from_params(&params, &key);
    let server_key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("authority.pem", &authority.pem());
    write("server.pem", &server.pem());
    write("server.key", &server_key.serialize_pem());
}
