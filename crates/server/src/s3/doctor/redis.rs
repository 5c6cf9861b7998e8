use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use redis::{AsyncCommands as _, Client, RedisError, aio::MultiplexedConnection};

use super::{Doctor, Finding, milliseconds};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The oldest version known to support all commands in use.
const MIN_MAJOR_VERSION: u32 = 6;

pub(super) async fn run(doctor: &mut Doctor<'_>, url: &str) {
    let client = match Client::open(url) {
        Ok(client) => client,
        // Its text may contain the URL with a password.
        Err(error) => {
            let error = format!("--lease: {:?}", error.kind());
            return doctor.report(Finding::fail("Redis", error).advise("correct the URL"));
        }
    };
    let started = Instant::now();
    let mut connection = match with_timeout(client.get_multiplexed_async_connection()).await {
        Ok(connection) => connection,
        Err(error) => {
            let fix = "correct --lease, or start the server";
            return doctor.report(Finding::fail("Redis", error).advise(fix));
        }
    };
    let took = milliseconds(started.elapsed());
    doctor.report(Finding::ok("Redis", format!("connected, {took}")));
    match with_timeout(redis::cmd("INFO").query_async::<String>(&mut connection)).await {
        Ok(text) => {
            for finding in evaluate_info(&text) {
                doctor.report(finding);
            }
        }
        Err(error) => {
            let text = format!("cannot be read: {error}");
            doctor.report(Finding::info("Redis version", text));
        }
    }
    let started = Instant::now();
    let ping = with_timeout(redis::cmd("PING").query_async::<String>(&mut connection)).await;
    let took = ping.map(|_| milliseconds(started.elapsed()));
    doctor.report_step("Redis round trip", took, "allow PING");
    let ran = with_timeout(script(&mut connection)).await;
    let ran = ran.map(|()| "run".to_owned());
    let fix = "permit EVAL, EVALSHA, GET, SET, DEL and PEXPIRE for the user on keys with the prefix \
               landfall:";
    doctor.report_step("Redis scripts", ran, fix);
    let arrived = with_timeout(pubsub(&client, &mut connection)).await;
    let arrived = arrived.map(|took| format!("arrived, {}", milliseconds(took)));
    let fix = "permit PUBLISH and SUBSCRIBE for the user on channels with the prefix landfall:";
    doctor.report_step("Redis messages", arrived, fix);
}

async fn with_timeout<T>(step: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, step).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no response within {} s", TIMEOUT.as_secs())),
    }
}

fn evaluate_info(info: &str) -> Vec<Finding> {
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let mut findings = Vec::new();
    let (name, version) = match (value("valkey_version"), value("redis_version")) {
        (Some(version), _) => ("Valkey", version),
        (None, version) => ("Redis", version.unwrap_or("(unknown version)")),
    };
    let major = version.split('.').next();
    let major = major.and_then(|n| n.parse::<u32>().ok());
    let text = format!("{name} {version}");
    findings.push(match major {
        Some(major) if major < MIN_MAJOR_VERSION => Finding::warn("Redis version", text)
            .advise(format!("use version {MIN_MAJOR_VERSION} or newer")),
        _ => Finding::ok("Redis version", text),
    });
    if value("role").is_some_and(|role| role != "master") {
        let finding = Finding::fail("Redis role", "this is a replica, which rejects writes");
        findings.push(finding.advise("use the primary in --lease"));
    }
    let policy = value("maxmemory_policy").filter(|policy| *policy != "noeviction");
    if let Some(policy) = policy.filter(|_| value("maxmemory") != Some("0")) {
        let text = "leases may be evicted when the memory is full";
        let text = format!("{text} (maxmemory-policy {policy})");
        let advice = "set maxmemory-policy noeviction, or use a separate server";
        findings.push(Finding::warn("Redis memory", text).advise(advice));
    }
    findings
}

async fn script(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let script = redis::Script::new(
        "redis.call('SET', KEYS[1], ARGV[1], 'PX', 1000) \
         local value = redis.call('GET', KEYS[1]) redis.call('DEL', KEYS[1]) return value",
    );
    let key = format!("landfall:doctor:{}", std::process::id());
    let value: String = script.key(key).arg("x").invoke_async(connection).await?;
    let text = "a key has another value than was written";
    match value.as_str() {
        "x" => Ok(()),
        _ => Err((redis::ErrorKind::UnexpectedReturnType, text).into()),
    }
}

async fn pubsub(
    client: &Client,
    connection: &mut MultiplexedConnection,
) -> Result<Duration, RedisError> {
    let channel = format!("landfall:doctor:{}", std::process::id());
    let mut listener = client.get_async_pubsub().await?;
    listener.subscribe(&channel).await?;
    let started = Instant::now();
    let _: i64 = connection.publish(&channel, "x").await?;
    let mut stream = listener.on_message();
    let text = "the connection closed before the message arrived";
    match stream.next().await {
        Some(_) => Ok(started.elapsed()),
        None => Err((redis::ErrorKind::Io, text).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Severity, *};

    #[test]
    fn info_shows_risks_for_leases() {
        let severities = |info: &str| -> Vec<Severity> {
            evaluate_info(info).iter().map(|f| f.severity).collect()
        };
        let good = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\n\
                    maxmemory_policy:allkeys-lru\r\n";
        assert_eq!(severities(good), [Severity::Ok]);
        assert_eq!(
            severities("redis_version:5.0.1\r\nrole:slave\r\n"),
            [Severity::Warn, Severity::Fail]
        );
        let full = "redis_version:7.2.4\nvalkey_version:8.0.1\nmaxmemory:1000\n\
                    maxmemory_policy:allkeys-lru\n";
        assert_eq!(severities(full), [Severity::Ok, Severity::Warn]);
        assert_eq!(evaluate_info(full)[0].text, "Valkey 8.0.1");
    }
}
