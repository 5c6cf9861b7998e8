//! Ceph's object gateway: it verifies signatures, and honors conditional writes.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Access, fresh_name, plain_http,
    process::{Process, StopSignal, find},
};

const ACCESS_KEY: &str = "AKIDCEPH";
const SECRET_KEY: &str = "ceph/secret+of/tests";
const SCRIPT: &str = include_str!("ceph.sh");

/// A gateway with a cluster of one node in memory. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Ceph {
    access: Access,
    _process: Process,
}

s3_service!(Ceph);

impl Ceph {
    /// Starts a separate gateway, which takes about two seconds.
    ///
    /// # Panics
    ///
    /// When Ceph is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        find("radosgw", "/usr/bin".as_ref());
        let (process, [port, _]) =
            Process::start("Ceph", StopSignal::Terminate, |dir, [port, monitor]| {
                let script = dir.join("ceph.sh");
                fs::write(&script, SCRIPT).unwrap();
                let mut command = Command::new("/bin/sh");
                command
                    .arg(script)
                    .arg(dir)
                    .args([monitor.to_string(), port.to_string()])
                    .args([ACCESS_KEY, SECRET_KEY]);
                command
            });
        Self {
            access: Access {
                endpoint: format!("http://127.0.0.1:{port}"),
                region: "us-east-1".to_owned(),
                access_key: ACCESS_KEY.to_owned(),
                secret_key: SECRET_KEY.to_owned(),
            },
            _process: process,
        }
    }

    /// Makes a new bucket and gives its name, which begins with `stem`.
    ///
    /// # Panics
    ///
    /// When Ceph refuses.
    #[must_use]
    pub fn bucket(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
        let expires = in_an_hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
        // AWS's signature before version 4, for which a shell's tools suffice.
        let signature = hmac_sha1(&format!("PUT\n\n\n{expires}\n/{name}"));
        let signature = signature.replace('+', "%2B").replace('/', "%2F");
        let signature = signature.replace('=', "%3D");
        let query = format!("AWSAccessKeyId={ACCESS_KEY}&Expires={expires}&Signature={signature}");
        let path = format!("/{name}?{query}");
        plain_http::must(self.access.authority(), "PUT", &path, &[], "");
        name
    }
}

/// In Base64.
fn hmac_sha1(text: &str) -> String {
    let program = format!("openssl dgst -sha1 -hmac {SECRET_KEY} -binary | base64");
    let mut shell = Command::new("/bin/sh")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = shell.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
