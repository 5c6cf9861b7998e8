//! moto: an S3 server that is strict where Garage is lenient: minimum part size, conditional writes,
//! metadata of multipart uploads. It does not check signatures.

use std::process::Command;

use crate::{
    Access, fresh_name, plain_http,
    process::{Process, StopSignal, find, user_folder},
};

/// A moto server. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct Moto {
    access: Access,
    _process: Process,
}

s3_service!(Moto);

impl Moto {
    /// Starts a separate server, which takes about two seconds.
    ///
    /// # Panics
    ///
    /// When moto is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = user_folder("XDG_CACHE_HOME", ".cache").join("landfall-tests/moto/bin");
        let program = find("moto_server", &folder);
        let (process, [port]) = Process::start("moto", StopSignal::Kill, |_, [port]| {
            let mut command = Command::new(&program);
            command
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                // As AWS: every part but the last has 5 MiB or more.
                .env("S3_UPLOAD_PART_MIN_SIZE", "5242880")
                .env("PYTHONWARNINGS", "ignore");
            command
        });
        Self {
            access: Access {
                endpoint: format!("http://127.0.0.1:{port}"),
                region: "us-east-1".to_owned(),
                access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
                secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            },
            _process: process,
        }
    }

    /// Makes a new bucket and gives its name, which begins with `stem`.
    ///
    /// # Panics
    ///
    /// When moto refuses.
    #[must_use]
    pub fn bucket(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        plain_http::must(self.access.authority(), "PUT", &format!("/{name}"), &[], "");
        name
    }

    /// Makes a new bucket that retains every object for a day (Object Lock), and gives its name.
    ///
    /// # Panics
    ///
    /// When moto refuses.
    #[must_use]
    pub fn bucket_with_retention(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        let locked = [("x-amz-bucket-object-lock-enabled", "true")];
        let authority = self.access.authority();
        plain_http::must(authority, "PUT", &format!("/{name}"), &locked, "");
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>\
            <DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>\
            </ObjectLockConfiguration>";
        let path = format!("/{name}?object-lock");
        plain_http::must(authority, "PUT", &path, &[], rule);
        name
    }
}
