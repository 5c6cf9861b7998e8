//! RabbitMQ, which keeps durable queues over a restart.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use crate::{
    folder::Folder,
    process::{Process, StopSignal, find},
};

const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A RabbitMQ server. Ends when it is dropped, or with this process.
#[derive(Debug)]
pub struct RabbitMq {
    // Before the folder: fields are dropped in this order.
    process: Option<Process>,
    /// Erlang's port mapper, which otherwise would be started in the background and stay.
    _epmd: Process,
    folder: Folder,
    ports: Ports,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    epmd: u16,
    amqp: u16,
    nodes: u16,
}

impl RabbitMq {
    /// The one that all tests of this process share.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RabbitMq> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one, which takes about ten seconds.
    ///
    /// # Panics
    ///
    /// When RabbitMQ is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = Folder::new();
        let (epmd, [mapper]) = Process::start("epmd", StopSignal::Kill, |_, [port]| {
            let mut command = Command::new(find("epmd", Path::new("/usr/bin")));
            command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
            command
        });
        let mut ports = None;
        let (process, _) = Process::start("RabbitMQ", StopSignal::Kill, |_, [amqp, nodes]| {
            let tried = Ports {
                epmd: mapper,
                amqp,
                nodes,
            };
            ports = Some(tried);
            server(folder.path(), tried)
        });
        Self {
            process: Some(process),
            _epmd: epmd,
            folder,
            ports: ports.unwrap(),
        }
    }

    /// `amqp://guest:guest@127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.ports.amqp)
    }

    /// Kills the server: connections break; durable queues and confirmed messages are kept.
    ///
    /// # Panics
    ///
    /// When it does not answer any more.
    pub fn stop(&mut self) {
        if self.process.is_some() {
            // A new binding is confirmed before it is written: a kill at once may lose it.
            let mut dump = command("rabbitmqctl", self.folder.path(), self.ports);
            let dumped = dump.args(["-q", "eval", "mnesia:dump_log()."]).status();
            assert!(
                dumped.unwrap().success(),
                "the declarations are not written"
            );
        }
        self.process = None;
    }

    /// Starts it again on the same port. One that runs is killed before.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.stop();
        let (dir, ports) = (self.folder.path(), self.ports);
        let started = Instant::now();
        // The port mapper may still hold the name of the one before.
        while started.elapsed() < READY_TIMEOUT {
            let start = |_: &Path| server(dir, ports);
            self.process = Process::start_on("RabbitMQ", StopSignal::Kill, ports.amqp, start);
            if self.process.is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("RabbitMQ did not start again on {}", ports.amqp);
    }
}

fn server(dir: &Path, ports: Ports) -> Command {
    let config = dir.join("rabbitmq.conf");
    let text = format!(
        "listeners.tcp.1 = 127.0.0.1:{}\n\
         log.console = true\n\
         log.console.level = warning\n\
         log.file = false\n\
         disk_free_limit.absolute = 1MB\n",
        ports.amqp
    );
    fs::write(&config, text).unwrap();
    let mut command = command("rabbitmq-server", dir, ports);
    command
        // Becomes the Erlang VM, instead of waiting for it as a shell.
        .env("detached", "yes")
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env("RABBITMQ_CONFIG_FILE", &config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        // Two threads do for tests; and other nodes are not to find it.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        );
    command
}

fn command(program: &str, dir: &Path, ports: Ports) -> Command {
    let mut command = Command::new(find(program, Path::new("/usr/lib/rabbitmq/bin")));
    command
        .env("HOME", dir)
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", format!("test{}@localhost", ports.amqp))
        .env("RABBITMQ_CONF_ENV_FILE", dir.join("none"));
    command
}
