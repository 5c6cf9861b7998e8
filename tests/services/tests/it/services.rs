//! Each service comes up, answers, and leaves nothing behind.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use landfall_test_services::{Garage, Kafka, Moto, Nats, Postgres, RabbitMq, Redis};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "not {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn refuses(endpoint: &str) -> bool {
    let address = endpoint.split_once("//").unwrap().1;
    TcpStream::connect(address.split('/').next().unwrap()).is_err()
}

fn send_request(endpoint: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(endpoint.split_once("//").unwrap().1).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn garage_starts_and_ends() {
    let garage = Garage::start();
    let access = garage.access();
    let bucket = garage.bucket("services");
    let limited = garage.limited_access(&bucket, &["read"]);
    assert_ne!(limited.access_key, access.access_key);
    let answer = send_request(
        &access.endpoint,
        &format!("GET /{bucket} HTTP/1.0\r\nHost: x\r\n\r\n"),
    );
    assert!(answer.contains("AccessDenied"), "{answer}");
    drop(garage);
    assert!(refuses(&access.endpoint));
}

#[test]
fn moto_starts_and_ends() {
    let moto = Moto::start();
    let access = moto.access();
    let bucket = moto.bucket("services");
    let answer = send_request(&access.endpoint, "GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    assert!(answer.contains(&bucket), "{answer}");
    drop(moto);
    assert!(refuses(&access.endpoint));
}

#[test]
fn redis_forgets_when_it_starts_again() {
    let mut redis = Redis::start();
    let url = redis.url();
    let set = send_request(&url, "SET a 1\r\nGET a\r\nQUIT\r\n");
    assert_eq!(set, "+OK\r\n$1\r\n1\r\n+OK\r\n");
    redis.stop();
    assert!(refuses(&url));
    redis.restart();
    assert_eq!(send_request(&url, "GET a\r\nQUIT\r\n"), "$-1\r\n+OK\r\n");
    drop(redis);
    assert!(refuses(&url));
}

#[test]
fn postgres_keeps_committed_data() {
    for fsync in [false, true] {
        let mut postgres = Postgres::start(fsync);
        let url = postgres.database("services");
        assert_ne!(url, postgres.database("services"));
        let on = postgres.query(&url, "SHOW fsync");
        assert_eq!(on.trim() == "on", fsync);
        postgres.query(&url, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
        postgres.stop();
        let endpoint = bare(&postgres.url());
        assert!(refuses(&endpoint));
        postgres.restart();
        assert_eq!(postgres.query(&url, "SELECT n FROM t"), "7\n");
        drop(postgres);
        assert!(refuses(&endpoint));
    }
}

/// `scheme://host:port` of a URL with user and password.
fn bare(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{}", rest.rsplit('@').next().unwrap())
}

#[test]
fn nats_starts_again() {
    let mut nats = Nats::start();
    let endpoint = bare(&nats.url());
    let hello = send_request(&endpoint, "CONNECT {\"verbose\":true}\r\n");
    assert!(hello.starts_with("INFO {"), "{hello}");
    assert!(hello.contains("Authorization Violation"), "{hello}");
    nats.stop();
    assert!(refuses(&endpoint));
    nats.restart();
    assert!(!refuses(&endpoint));
    drop(nats);
    assert!(refuses(&endpoint));
}

#[test]
fn rabbitmq_starts_again_and_leaves_no_erlang_behind() {
    let mut rabbitmq = RabbitMq::start();
    let endpoint = bare(&rabbitmq.url());
    rabbitmq.stop();
    assert!(refuses(&endpoint));
    rabbitmq.restart();
    assert!(!refuses(&endpoint));
    let mark = format!(
        "RABBITMQ_NODENAME=test{}@",
        endpoint.rsplit(':').next().unwrap()
    );
    let left = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut marked = processes.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
        let has = |environ: Vec<u8>| String::from_utf8_lossy(&environ).contains(&mark);
        marked.any(has)
    };
    assert!(left());
    drop(rabbitmq);
    assert!(refuses(&endpoint));
    until("without a process of Erlang's", || !left());
}

#[test]
fn kafka_closes_and_opens_on_the_same_ports() {
    let mut kafka = Kafka::start();
    kafka.topic("services", 1);
    assert_eq!(kafka.records("services"), []);
    let brokers = kafka.brokers();
    let all_refuse = || {
        let mut brokers = brokers.split(',');
        brokers.all(|broker| refuses(&format!("//{broker}")))
    };
    assert!(!all_refuse());
    kafka.stop();
    until("closed", all_refuse);
    kafka.restart();
    until("open", || !all_refuse());
    drop(kafka);
    assert!(all_refuse());
}

#[test]
fn all_share_one() {
    let other = thread::spawn(|| Garage::shared().access().endpoint);
    assert_eq!(
        Garage::shared().access().endpoint,
        other.join().unwrap(),
        "started twice"
    );
    assert_ne!(
        Garage::shared().bucket("same"),
        Garage::shared().bucket("same")
    );
}

const CHILD: &str = "LANDFALL_TEST_SERVICES_CHILD";

/// Runs in the process that the next test kills.
#[test]
fn child_that_is_killed() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    // Statics are never dropped, which is the point.
    let garage = Garage::shared();
    let postgres = Postgres::shared();
    println!(
        "\nchild {} {} {}",
        garage.watchdog(),
        garage.access().endpoint,
        bare(&postgres.url()),
    );
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    // As root, PostgreSQL runs as another user.
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "services::child_that_is_killed", "--nocapture"])
        .env(CHILD, "1")
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("child "))
        .unwrap();
    let mut parts = told.split(' ').skip(1);
    let watchdog = format!("/proc/{}", parts.next().unwrap());
    let endpoints: Vec<&str> = parts.collect();
    assert!(Path::new(&watchdog).exists());
    assert!(!endpoints.iter().any(|endpoint| refuses(endpoint)));

    child.kill().unwrap();
    child.wait().unwrap();

    until("ended", || {
        endpoints.iter().all(|endpoint| refuses(endpoint))
    });
    until("without a watchdog", || !Path::new(&watchdog).exists());
    until("without folders", || {
        fs::read_dir(temporary.path()).unwrap().count() == 0
    });
}
