//! The kinds of work that are measured.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::{self, Server};
use crate::http::{Connection, Fault};
use crate::pattern::{Pattern, Random};
use crate::report::{self, Figures};
use crate::target::{Kind, Target, Upload};

/// Smallest and largest of the small uploads, in bytes.
const SMALL: (u64, u64) = (1 << 10, 64 << 10);
/// Creations that aren't measured.
const WARM_CREATIONS: usize = 320;
/// Half of each upload that HEAD asks for is kept.
const ASKED: u64 = 8 << 10;
/// Length of an upload that a slow connection trickles into.
const TRICKLE: u64 = 1 << 20;

/// Uploads of `length` bytes, one per connection, in requests of at most `step` bytes. A PUT
/// server gets objects of `step` bytes.
pub(crate) fn stream(
    target: &Target,
    connections: usize,
    length: u64,
    step: u64,
) -> Result<(), Fault> {
    warm_up(target, 16 << 20, step, 0)?;
    let phase = |index: usize| 1 + 7919 * index as u64;
    fleet::run(
        target,
        connections,
        |index, connection| {
            if target.kind == Kind::Put {
                // Replaced by each object in turn; the last one is checked.
                return Ok(Upload {
                    path: String::new(),
                    phase: phase(index),
                    length: 0,
                });
            }
            target.create(connection, phase(index), length, 0)
        },
        |member| {
            let (index, mut offset) = (member.index, 0);
            while offset < length {
                let count = step.min(length - offset);
                member.time(count, |connection, upload| {
                    if target.kind == Kind::Tus {
                        return target.append(connection, upload, offset, count);
                    }
                    let path = target.object(&format!("stream-{index}-{offset}"));
                    *upload = Upload {
                        path,
                        phase: phase(index) + offset,
                        length: count,
                    };
                    target.put(connection, upload)
                })?;
                offset += count;
            }
            Ok(())
        },
        |member| target.verify(&mut member.connection, &member.state),
    )
}

/// `count` uploads of 1 to 64 KiB, shared out over the connections.
pub(crate) fn small(target: &Target, connections: usize, count: usize) -> Result<(), Fault> {
    warm_up(target, 4 << 20, 64 << 10, 300)?;
    fleet::run(
        target,
        connections,
        |index, connection| {
            let mut random = Random::new(index as u64 + 100);
            let mut plan = Vec::with_capacity(count / connections);
            for _ in 0..count / connections {
                let length = random.log_uniform(SMALL.0, SMALL.1);
                target.ahead(connection, length)?;
                plan.push((length, random.below(1 << 20)));
            }
            Ok((plan, None))
        },
        |member| {
            for turn in 0..count / connections {
                let name = format!("small-{}-{turn}", member.index);
                let (length, phase) = member.state.0[turn];
                member.time(length, |connection, (_, last)| {
                    *last = Some(target.whole(connection, || name, phase, length)?);
                    Ok(())
                })?;
            }
            Ok(())
        },
        |member| {
            let upload = member.state.1.as_ref().ok_or("no upload was made")?;
            target.verify(&mut member.connection, upload)
        },
    )
}

/// `count` uploads that are created and get no bytes, shared out over the connections.
pub(crate) fn creations(target: &Target, connections: usize, count: usize) -> Result<(), Fault> {
    let length = SMALL.1;
    fleet::run(
        target,
        connections,
        |_, connection| {
            // Unmeasured, and on all connections at once, as later.
            for _ in 0..WARM_CREATIONS / connections {
                target.create(connection, 0, length, 0)?;
            }
            for _ in 0..count / connections {
                target.ahead(connection, length)?;
            }
            Ok(None)
        },
        |member| {
            for turn in 0..count / connections {
                let phase = (member.index * 31 + turn) as u64;
                member.time(0, |connection, last| {
                    *last = Some(target.create(connection, phase, length, 0)?);
                    Ok(())
                })?;
            }
            Ok(())
        },
        |member| {
            let upload = member.state.as_ref().ok_or("no upload was made")?;
            let kept = target.kept(&mut member.connection, &upload.path)?;
            if kept != 0 {
                return Err(format!("HEAD says {kept} bytes are kept, none was sent"));
            }
            target.append(&mut member.connection, upload, 0, length)?;
            target.verify(&mut member.connection, upload)
        },
    )
}

/// `count` HEADs over `uploads` half-sent uploads. Each connection asks for its own share of
/// them, so that a server which locks on HEAD isn't made to wait for itself.
pub(crate) fn heads(
    target: &Target,
    connections: usize,
    count: usize,
    uploads: usize,
) -> Result<(), Fault> {
    let half = ASKED / 2;
    // A PUT server knows no unfinished uploads: its objects are whole.
    let length = if target.kind == Kind::Put {
        half
    } else {
        ASKED
    };
    fleet::run(
        target,
        connections,
        |index, connection| {
            let make = |turn: usize| {
                let phase = (index * 31 + turn) as u64;
                if target.kind == Kind::Put {
                    let path = target.object(&format!("asked-{index}-{turn}"));
                    let upload = Upload {
                        path,
                        phase,
                        length,
                    };
                    target.put(connection, &upload)?;
                    return Ok(upload);
                }
                if target.one_request_each() {
                    return target.create(connection, phase, length, half);
                }
                let upload = target.create(connection, phase, length, 0)?;
                target.append(connection, &upload, 0, half)?;
                Ok(upload)
            };
            let share: Result<Vec<Upload>, Fault> = (0..uploads / connections).map(make).collect();
            Ok((Random::new(index as u64 + 200), share?))
        },
        |member| {
            for _ in 0..count / connections {
                member.time(0, |connection, (random, share)| {
                    let which = random.below(share.len() as u64) as usize;
                    let kept = target.kept(connection, &share[which].path)?;
                    if kept == half {
                        Ok(())
                    } else {
                        Err(format!("HEAD says {kept}, not {half}"))
                    }
                })?;
            }
            Ok(())
        },
        |member| {
            let (_, share) = &member.state;
            let upload = share.last().ok_or("no upload was made")?;
            if target.kind == Kind::Tus {
                target.append(&mut member.connection, upload, half, half)?;
            }
            target.verify(&mut member.connection, upload)
        },
    )
}

/// Opens `connections`, each an upload that gets one byte a second, and holds them for `hold`.
/// The driver reads the server's memory before and after; then one of the uploads is finished.
pub(crate) fn slow(target: &Target, connections: usize, hold: Duration) -> Result<(), Fault> {
    report::pause(&format!("ready {}", target.made()))?;
    let (began, cpu) = (Instant::now(), report::own_cpu());
    let mut open = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut connection = Connection::open(target.address)?;
        let phase = index as u64;
        let (upload, head) = if target.kind == Kind::Put {
            let path = target.object(&format!("slow-{index}"));
            let upload = Upload {
                path,
                phase,
                length: TRICKLE,
            };
            let head = target.put_head(&upload);
            (upload, head)
        } else {
            let upload = target.create(&mut connection, phase, TRICKLE, 0)?;
            let head = target.append_head(&upload, 0, TRICKLE);
            (upload, head)
        };
        connection.begin(head.as_bytes())?;
        open.push((connection, upload));
    }
    let (mut sent, mut bytes) = (0, 0);
    while sent == 0 || began.elapsed() < hold {
        for (connection, upload) in &mut open {
            connection.send(target.pattern.slice(upload.phase, sent, 1))?;
            bytes += 1;
        }
        sent += 1;
        thread::sleep(Duration::from_secs(1).min(hold));
    }
    let mut figures = Figures {
        wall: began.elapsed(),
        bytes,
        client_cpu: report::own_cpu().saturating_sub(cpu),
        one_request_each: target.one_request_each(),
        ..Figures::default()
    };
    report::pause(&format!("done {}", figures.json()))?;

    let (connection, upload) = open.last_mut().ok_or("no connection was opened")?;
    while sent < TRICKLE {
        let slice = target.pattern.slice(upload.phase, sent, TRICKLE - sent);
        connection.send(slice)?;
        sent += slice.len() as u64;
    }
    match target.kind {
        Kind::Tus => target.appended(connection, TRICKLE)?,
        Kind::Put => target.was_put(connection)?,
    }
    target.verify(connection, upload)?;
    report::say("verified")
}

/// Opens `connections`, sends one HEAD on each, and keeps them without a request for `hold`. The driver reads
/// the server's memory before and after. What counts are the connections that the server has kept open: each
/// is used once more.
pub(crate) fn idle(target: &Target, connections: usize, hold: Duration) -> Result<(), Fault> {
    let mut first = Connection::open(target.address)?;
    let upload = target.whole(&mut first, || "idle".into(), 0, TRICKLE)?;
    let head = |connection: &mut Connection| match target.kept(connection, &upload.path)? {
        TRICKLE => Ok(()),
        kept => Err(format!(
            "HEAD says {kept} bytes are kept, {TRICKLE} were sent"
        )),
    };
    head(&mut first)?;
    report::pause("ready 1")?;
    let (began, cpu) = (Instant::now(), report::own_cpu());
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = Connection::open(target.address)?;
        let sent = Instant::now();
        head(&mut connection)?;
        open.push((connection, sent.elapsed()));
    }
    thread::sleep(hold);
    open.retain(|(connection, _)| connection.is_open());
    let mut figures = Figures {
        wall: began.elapsed(),
        latencies: open.iter().map(|(_, latency)| *latency).collect(),
        client_cpu: report::own_cpu().saturating_sub(cpu),
        one_request_each: target.one_request_each(),
        ..Figures::default()
    };
    report::pause(&format!("done {}", figures.json()))?;

    for (connection, _) in &mut open {
        head(connection)?;
    }
    report::say("verified")
}

/// Uploads that aren't measured: pages touched, code compiled, caches warm. `length` bytes in
/// requests of `step`, then `small` uploads of 4 KiB, each asked for once.
fn warm_up(target: &Target, length: u64, step: u64, small: usize) -> Result<(), Fault> {
    let mut connection = Connection::open(target.address)?;
    if target.kind == Kind::Put {
        let upload = Upload {
            path: target.object("warm"),
            phase: 0,
            length: length.min(step),
        };
        target.put(&mut connection, &upload)?;
    } else {
        let upload = target.create(&mut connection, 0, length, 0)?;
        let mut offset = 0;
        while offset < length {
            let count = step.min(length - offset);
            target.append(&mut connection, &upload, offset, count)?;
            offset += count;
        }
    }
    for turn in 0..small {
        let name = || format!("warm-{turn}");
        let upload = target.whole(&mut connection, name, turn as u64, 4 << 10)?;
        let kept = target.kept(&mut connection, &upload.path)?;
        if kept != upload.length {
            return Err(format!(
                "HEAD says {kept} bytes are kept, {} were sent",
                upload.length
            ));
        }
    }
    Ok(())
}

/// What a disk takes for the least that durability asks: a new file of 4 KiB synced, and its
/// folder synced. Prints median and 99th percentile in microseconds; the driver removes the files.
pub(crate) fn sync_cost(folder: &str, count: usize) -> Result<(), Fault> {
    let once = |turn: usize| -> io::Result<Duration> {
        let start = Instant::now();
        let mut file = std::fs::File::create(format!("{folder}/sync-{turn}"))?;
        io::Write::write_all(&mut file, &[7; 4 << 10])?;
        file.sync_all()?;
        std::fs::File::open(folder)?.sync_all()?;
        Ok(start.elapsed())
    };
    let times: io::Result<Vec<Duration>> = (0..count).map(once).collect();
    let mut times = times.map_err(|error| format!("{folder}: {error}"))?;
    times.sort_unstable();
    let micros = |share| report::quantile(&times, share).as_secs_f64() * 1e6;
    report::say(&format!(
        "{{\"p50_us\":{:.1},\"p99_us\":{:.1},\"count\":{count}}}",
        micros(0.5),
        micros(0.99)
    ))
}

/// Writes what an upload of this `phase` and `length` would send into a file, and says so.
pub(crate) fn file(path: &str, phase: u64, length: u64) -> Result<(), Fault> {
    let pattern = Pattern::new();
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        let mut offset = 0;
        while offset < length {
            let slice = pattern.slice(phase, offset, length - offset);
            io::Write::write_all(&mut file, slice)?;
            offset += slice.len() as u64;
        }
        Ok(())
    };
    write().map_err(|error| format!("{path}: {error}"))?;
    report::say("written")
}
