//! The Redis or Valkey that keeps leases.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use redis::{AsyncCommands as _, Client, RedisError, aio::MultiplexedConnection};

use super::{Examination, Finding, Mark, milliseconds};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The oldest that is known to have all that is used.
const OLDEST: u32 = 6;

/// Looks at the server: version, role, memory, round trip, scripts, messages.
pub(super) async fn examine(x: &mut Examination<'_>, url: &str) {
    let failed = |check, why: String, remedy: &str| {
        Finding::new(check, Mark::Fail, why).advise(remedy.to_owned())
    };
    let client = match Client::open(url) {
        Ok(client) => client,
        // Its text may cite the URL, which may have a password in it.
        Err(error) => {
            let why = format!("-lease: {:?}", error.kind());
            x.note(failed("Redis", why, "correct the URL"));
            return;
        }
    };
    let begun = Instant::now();
    let mut connection = match patient(client.get_multiplexed_async_connection()).await {
        Ok(connection) => connection,
        Err(why) => {
            let remedy = "correct --lease, or start the server";
            x.note(failed("Redis", why, remedy));
            return;
        }
    };
    x.note(Finding::new(
        "Redis",
        Mark::Ok,
        format!("connected, {}", milliseconds(begun.elapsed())),
    ));
    match patient(info(&mut connection)).await {
        Ok(text) => {
            for finding in about(&text) {
                x.note(finding);
            }
        }
        Err(why) => x.note(Finding::new(
            "Redis version",
            Mark::Note,
            format!("can't be read: {why}"),
        )),
    }
    let begun = Instant::now();
    match patient(redis::cmd("PING").query_async::<String>(&mut connection)).await {
        Ok(_) => {
            let text = milliseconds(begun.elapsed());
            x.note(Finding::new("Redis round trip", Mark::Ok, text));
        }
        Err(why) => x.note(failed("Redis round trip", why, "allow PING")),
    }
    match patient(script(&mut connection)).await {
        Ok(()) => x.note(Finding::new("Redis scripts", Mark::Ok, "run")),
        Err(why) => x.note(failed(
            "Redis scripts",
            why,
            "allow the user EVAL, EVALSHA, GET, SET, DEL and PEXPIRE on keys that begin with \
             landfall:",
        )),
    }
    match patient(messages(&client, &mut connection)).await {
        Ok(took) => x.note(Finding::new(
            "Redis messages",
            Mark::Ok,
            format!("arrive, {}", milliseconds(took)),
        )),
        Err(why) => x.note(failed(
            "Redis messages",
            why,
            "allow the user PUBLISH and SUBSCRIBE on channels that begin with landfall:",
        )),
    }
}

/// A step that must end within [`PATIENCE`].
async fn patient<T>(step: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(came) => came.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn info(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    redis::cmd("INFO").query_async(connection).await
}

/// What INFO tells that matters.
fn about(info: &str) -> Vec<Finding> {
    let value = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let mut findings = Vec::new();
    let (name, version) = match (value("valkey_version"), value("redis_version")) {
        (Some(version), _) => ("Valkey", version),
        (None, version) => ("Redis", version.unwrap_or("of no known version")),
    };
    let major = version
        .split('.')
        .next()
        .and_then(|n| n.parse::<u32>().ok());
    let text = format!("{name} {version}");
    findings.push(match major {
        Some(major) if major < OLDEST => Finding::new("Redis version", Mark::Warn, text)
            .advise(format!("use version {OLDEST} or newer")),
        _ => Finding::new("Redis version", Mark::Ok, text),
    });
    if value("role").is_some_and(|role| role != "master") {
        findings.push(
            Finding::new(
                "Redis role",
                Mark::Fail,
                "this is a replica, which takes no writes",
            )
            .advise("name the primary in --lease"),
        );
    }
    match value("maxmemory_policy") {
        Some(policy) if policy != "noeviction" && value("maxmemory") != Some("0") => {
            findings.push(
                Finding::new(
                    "Redis memory",
                    Mark::Warn,
                    format!("leases may be thrown out when it is full (maxmemory-policy {policy})"),
                )
                .advise("set maxmemory-policy noeviction, or use a server of its own"),
            );
        }
        _ => {}
    }
    findings
}

/// Runs a script that writes and removes a key.
async fn script(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let script = redis::Script::new(
        "redis.call('SET', KEYS[1], ARGV[1], 'PX', 1000) \
         local kept = redis.call('GET', KEYS[1]) redis.call('DEL', KEYS[1]) return kept",
    );
    let key = format!("landfall:doctor:{}", std::process::id());
    let kept: String = script.key(key).arg("x").invoke_async(connection).await?;
    if kept == "x" {
        Ok(())
    } else {
        Err(RedisError::from((
            redis::ErrorKind::UnexpectedReturnType,
            "a key that was written has another value",
        )))
    }
}

/// Sends a message to itself; how long it took.
async fn messages(
    client: &Client,
    connection: &mut MultiplexedConnection,
) -> Result<Duration, RedisError> {
    let channel = format!("landfall:doctor:{}", std::process::id());
    let mut listener = client.get_async_pubsub().await?;
    listener.subscribe(&channel).await?;
    let begun = Instant::now();
    let _: i64 = connection.publish(&channel, "x").await?;
    let mut stream = listener.on_message();
    match stream.next().await {
        Some(_) => Ok(begun.elapsed()),
        None => Err(RedisError::from((
            redis::ErrorKind::Io,
            "the connection ended before the message came",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_shows_what_would_lose_leases() {
        let marks = |info: &str| -> Vec<Mark> { about(info).iter().map(|f| f.mark).collect() };
        let good = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\n\
                    maxmemory_policy:allkeys-lru\r\n";
        assert_eq!(marks(good), [Mark::Ok]);
        assert_eq!(
            marks("redis_version:5.0.1\r\nrole:slave\r\n"),
            [Mark::Warn, Mark::Fail]
        );
        let full = "redis_version:7.2.4\nvalkey_version:8.0.1\nmaxmemory:1000\n\
                    maxmemory_policy:allkeys-lru\n";
        assert_eq!(marks(full), [Mark::Ok, Mark::Warn]);
        assert_eq!(about(full)[0].text, "Valkey 8.0.1");
    }
}
