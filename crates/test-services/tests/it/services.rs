//! Each service comes up, answers, and leaves nothing behind.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use landfall_test_services::{Garage, Moto, Redis};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "not {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn refuses(endpoint: &str) -> bool {
    TcpStream::connect(endpoint.split_once("//").unwrap().1).is_err()
}

fn ask(endpoint: &str, request: &str) -> String {
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
    let answer = ask(
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
    let answer = ask(&access.endpoint, "GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    assert!(answer.contains(&bucket), "{answer}");
    drop(moto);
    assert!(refuses(&access.endpoint));
}

#[test]
fn redis_forgets_when_it_starts_again() {
    let mut redis = Redis::start();
    let url = redis.url();
    let set = ask(&url, "SET a 1\r\nGET a\r\nQUIT\r\n");
    assert_eq!(set, "+OK\r\n$1\r\n1\r\n+OK\r\n");
    redis.stop();
    assert!(refuses(&url));
    redis.restart();
    assert_eq!(ask(&url, "GET a\r\nQUIT\r\n"), "$-1\r\n+OK\r\n");
    drop(redis);
    assert!(refuses(&url));
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

/// Not a test of its own: what the next one runs in a process that it kills.
#[test]
fn child_that_is_killed() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    // Statics are never dropped, which is the point.
    let garage = Garage::shared();
    println!("\nchild {} {}", garage.watchdog(), garage.access().endpoint);
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
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
    let mut words = told.split(' ').skip(1);
    let watchdog = format!("/proc/{}", words.next().unwrap());
    let endpoint = words.next().unwrap();
    assert!(Path::new(&watchdog).exists());
    assert!(!refuses(endpoint));

    child.kill().unwrap();
    child.wait().unwrap();

    until("ended", || refuses(endpoint));
    until("without a watchdog", || !Path::new(&watchdog).exists());
    let left = fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "folders are left in {temporary:?}");
}
