//! nginx and `HAProxy`, each with the configuration of a test.

use std::{fs, path::Path, process::Command};

use crate::process::{Process, StopSignal, find};

/// A reverse proxy on a free port. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct ReverseProxy {
    _process: Process,
    port: u16,
}

impl ReverseProxy {
    /// Starts nginx with these directives of the block `http`, in which `PORT` is its port.
    ///
    /// # Panics
    /// When nginx is not installed or does not start.
    #[must_use]
    pub fn nginx(directives: &str) -> Self {
        Self::start("nginx", |folder, port| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary = temporary.map(|name| format!("{name}_temp_path {name};\n"));
            let config = format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n\
                 {}{}\n}}\n",
                temporary.concat(),
                directives.replace("PORT", &port.to_string())
            );
            let path = folder.join("nginx.conf");
            fs::write(&path, config).unwrap();
            let mut command = Command::new(find("nginx", Path::new("/usr/sbin")));
            command.arg("-p").arg(folder).arg("-c").arg(path);
            command.args(["-e", "stderr"]);
            command
        })
    }

    /// Starts `HAProxy` with this configuration, in which `PORT` is its port.
    ///
    /// # Panics
    /// When `HAProxy` is not installed or does not start.
    #[must_use]
    pub fn haproxy(config: &str) -> Self {
        Self::start("HAProxy", |folder, port| {
            let path = folder.join("haproxy.cfg");
            fs::write(&path, config.replace("PORT", &port.to_string())).unwrap();
            let mut command = Command::new(find("haproxy", Path::new("/usr/sbin")));
            command.arg("-db").arg("-f").arg(path);
            command
        })
    }

    fn start(what: &str, mut command: impl FnMut(&Path, u16) -> Command) -> Self {
        let (process, [port]) = Process::start(what, StopSignal::Kill, |folder, [port]| {
            command(folder, port)
        });
        Self {
            _process: process,
            port,
        }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
