//! A cluster that speaks Kafka's protocol: the mock of librdkafka, the C client, by its authors. It
//! keeps records as they come; they are read back, and their checksums checked, by that client.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::process::{Process, StopSignal, find, user_folder};

const SCRIPT: &str = include_str!("kafka.py");

/// Three brokers. They end when this is dropped, or with this process.
#[derive(Debug)]
pub struct Kafka {
    _process: Process,
    port: u16,
}

/// A record that a consumer has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of its partition.
    pub partition: i64,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its time, in milliseconds since 1970.
    pub timestamp: i64,
}

impl Kafka {
    /// Starts them, which takes some tenths of a second.
    ///
    /// # Panics
    ///
    /// When the client is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = user_folder("XDG_CACHE_HOME", ".cache").join("landfall-tests");
        // A Python in $PATH would not have the client.
        let python = find("kafka/bin/python", &folder);
        let (process, [port]) = Process::start("Kafka", StopSignal::Kill, |dir, [port]| {
            let script = dir.join("kafka.py");
            fs::write(&script, SCRIPT).unwrap();
            let mut command = Command::new(&python);
            command.arg(script).arg(port.to_string());
            command
        });
        Self {
            _process: process,
            port,
        }
    }

    /// `127.0.0.1:PORT` of each, separated by commas.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.call("brokers").as_str().unwrap().to_owned()
    }

    /// Makes a topic.
    pub fn topic(&self, name: &str, partitions: u32) {
        self.call(&format!("topic {name} {partitions}"));
    }

    /// Closes all brokers: connections break and are refused.
    pub fn stop(&mut self) {
        self.call("down");
    }

    /// Opens them again on the same ports.
    pub fn restart(&mut self) {
        self.call("up");
    }

    /// Makes a broker (1, 2 or 3) the leader of a partition.
    pub fn lead(&self, topic: &str, partition: u32, broker: u32) {
        self.call(&format!("lead {topic} {partition} {broker}"));
    }

    /// Answers the next `count` requests to store something with the error of this code, and those
    /// after them as ever.
    pub fn deny(&self, code: i16, count: u32) {
        self.call(&format!("refuse {code} {count}"));
    }

    /// Returns the records of a topic: in order within each partition.
    #[must_use]
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let Value::Array(records) = self.call(&format!("records {topic}")) else {
            panic!("no list of records")
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let record = |record: Value| Record {
            partition: record["partition"].as_i64().unwrap(),
            key: text(&record["key"]),
            value: text(&record["value"]),
            headers: record["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            timestamp: record["timestamp"].as_i64().unwrap(),
        };
        records.into_iter().map(record).collect()
    }

    #[track_caller]
    fn call(&self, command: &str) -> Value {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        writeln!(stream, "{command}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{command}: {answer:?}"))
    }
}
