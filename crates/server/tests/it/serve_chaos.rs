//! Everything at once: clients that send in every way and are cut in every way, at two processes
//! that are killed and started again all the time. What was acknowledged is never lost, and in the
//! end all bytes are right.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::serve_harness::{
    Answer, Client, KIB, Landfall, Request, TIMEOUT, assert_same, base64, content, crc32, program,
    run,
};

/// Random numbers with a fixed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ (word >> 27)) % end
    }
}

/// Addresses of the two running processes.
type Addresses = Mutex<[Option<SocketAddr>; 2]>;

/// One client with one upload after the other.
struct Sender<'a> {
    dice: Dice,
    addresses: &'a Addresses,
    /// Connections left open in the middle of a request.
    hanging: Vec<Client>,
}

/// The upload a client is at.
struct Running<'a> {
    path: String,
    whole: &'a [u8],
    /// The highest offset of any response.
    acknowledged: u64,
    /// Whether its length is still deferred.
    deferred: bool,
}

impl Sender<'_> {
    /// A connection to one of the processes; both may be away for a moment.
    fn connect(&mut self) -> Client {
        let end = Instant::now() + TIMEOUT;
        loop {
            let at = self.dice.below(2) as usize;
            let address = self.addresses.lock().unwrap()[at];
            if let Some(address) = address
                && let Ok(client) = Client::try_connect(address)
            {
                return client;
            }
            assert!(Instant::now() < end, "nobody listens");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn create(&mut self, whole: &[u8]) -> (String, bool) {
        loop {
            let deferred = self.dice.below(3) == 0;
            let request = if deferred {
                Request::post().with("Upload-Defer-Length", 1)
            } else {
                Request::post().with("Upload-Length", whole.len())
            };
            // If the response is lost, the upload is an orphan, and another one is created.
            if let Ok(Some(answer)) = self.connect().try_ask(request) {
                return (answer.created(), deferred);
            }
        }
    }

    fn upload(&mut self, whole: &[u8]) -> String {
        let (path, deferred) = self.create(whole);
        let mut upload = Running {
            path,
            whole,
            acknowledged: 0,
            deferred,
        };
        let end = Instant::now() + 2 * TIMEOUT;
        while !self.step(&mut upload) {
            assert!(Instant::now() < end, "never done");
        }
        upload.path
    }

    /// Asks for the offset and sends some more in some way. True when all is there.
    fn step(&mut self, upload: &mut Running<'_>) -> bool {
        let mut client = self.connect();
        let Ok(Some(head)) = client.try_ask(Request::new("HEAD", &upload.path)) else {
            return false;
        };
        assert_eq!(head.status, 200, "{head:?}");
        let offset = head.offset();
        let known = upload.acknowledged;
        assert!(
            offset >= known,
            "{known} was acknowledged, {offset} is left"
        );
        upload.acknowledged = offset;
        upload.deferred = head.header("Upload-Length").is_none();
        let size = upload.whole.len() as u64;
        if offset == size && !upload.deferred {
            return true;
        }
        let end = offset + self.dice.below(size - offset + 1);
        let end = if self.dice.below(3) == 0 { size } else { end };
        let piece = &upload.whole[offset as usize..end as usize];
        let mut request = Request::patch(&upload.path, offset);
        if upload.deferred && (end == size || self.dice.below(2) == 0) {
            request = request.with("Upload-Length", size);
        }
        let told = match self.dice.below(6) {
            0 => client.try_ask(request.body(piece)),
            1 => {
                let sum = base64(&crc32(piece).to_be_bytes());
                client.try_ask(
                    request
                        .with("Upload-Checksum", format!("crc32 {sum}"))
                        .body(piece),
                )
            }
            2 => {
                let sum = base64(&(!crc32(piece)).to_be_bytes());
                let request = request.with("Upload-Checksum", format!("crc32 {sum}"));
                // None of it may count, so it may be anything.
                let answer = client.try_ask(request.body(&vec![0xee; piece.len()]));
                if let Ok(Some(answer)) = &answer {
                    assert_ne!(answer.status, 204, "{answer:?}");
                }
                answer
            }
            3 => self.chunked(&mut client, request, piece),
            _ => {
                self.cut(client, request, piece);
                return false;
            }
        };
        if let Ok(Some(answer)) = told {
            self.learn(upload, &answer, end);
        }
        false
    }

    fn learn(&self, upload: &mut Running<'_>, answer: &Answer, end: u64) {
        match answer.status {
            204 => {
                assert_eq!(answer.offset(), end);
                upload.acknowledged = end;
            }
            // Interrupted by a stalled connection of this client, or by the end of the process; a wrong
            // checksum, as intended; a starting process.
            423 => {}
            409 => answer.refuses(409, "ERR_MISMATCHED_OFFSET"),
            460 => answer.refuses(460, "ERR_CHECKSUM_MISMATCH"),
            503 => answer.refuses(503, "ERR_SERVER_SHUTDOWN"),
            _ => panic!("{answer:?}"),
        }
    }

    fn chunked(
        &mut self,
        client: &mut Client,
        request: Request,
        mut piece: &[u8],
    ) -> io::Result<Option<Answer>> {
        client.try_send(request.with("Transfer-Encoding", "chunked").bytes())?;
        while !piece.is_empty() {
            let n = 1 + self.dice.below(piece.len().min(100_000) as u64) as usize;
            let (chunk, rest) = piece.split_at(n);
            client.try_send([format!("{n:x}\r\n").as_bytes(), chunk, b"\r\n"].concat())?;
            piece = rest;
        }
        client.try_send("0\r\n\r\n")?;
        client.try_answer()
    }

    /// Sends a part of the declared chunk, and disconnects.
    fn cut(&mut self, mut client: Client, request: Request, piece: &[u8]) {
        let sent = self.dice.below(piece.len() as u64 + 1) as usize;
        let head = request.with("Content-Length", piece.len()).bytes();
        if client.try_send(head).is_err() || client.try_send(&piece[..sent]).is_err() {
            return;
        }
        match self.dice.below(3) {
            0 => drop(client),
            1 => {
                let _ = client.stream.shutdown(Shutdown::Write);
                self.hanging.push(client);
            }
            _ => self.hanging.push(client),
        }
    }
}

/// Kills and starts the processes alternately until stopped.
fn check_upload(
    dir: &Path,
    args: &[&str],
    addresses: &Addresses,
    servers: [Landfall; 2],
    mut dice: Dice,
    (done, deaths): (&AtomicBool, &AtomicUsize),
) {
    let mut servers = servers.map(Some);
    while !done.load(Relaxed) {
        thread::sleep(Duration::from_millis(50 + dice.below(300)));
        let at = dice.below(2) as usize;
        let mut server = servers[at].take().unwrap();
        addresses.lock().unwrap()[at] = None;
        if dice.below(3) == 0 {
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        } else {
            server.kill();
        }
        deaths.fetch_add(1, Relaxed);
        if dice.below(4) == 0 {
            let (code, out, _) = run(program().args(["sweep", "-upload-dir"]).arg(dir));
            assert_eq!(code, Some(0), "{out}");
        }
        let server = Landfall::on(dir, args);
        addresses.lock().unwrap()[at] = Some(server.address());
        servers[at] = Some(server);
    }
}

#[test]
fn no_data_is_lost_under_random_faults() {
    const CLIENTS: u64 = 6;
    const DEATHS: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let args = ["-shutdown-timeout", "200ms"];
    let servers = [(); 2].map(|()| Landfall::on(dir.path(), &args));
    let addresses = Mutex::new([Some(servers[0].address()), Some(servers[1].address())]);
    // For more than the usual: CHAOS_SEED=1, 2, 3, …
    let seed = std::env::var("CHAOS_SEED").map_or(0, |seed| seed.parse::<u64>().unwrap() << 32);
    let (done, at_work) = (AtomicBool::new(false), AtomicUsize::new(CLIENTS as usize));
    let deaths = AtomicUsize::new(0);
    thread::scope(|scope| {
        let trouble = scope.spawn(|| {
            check_upload(
                dir.path(),
                &args,
                &addresses,
                servers,
                Dice(seed + 99),
                (&done, &deaths),
            )
        });
        let senders: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (addresses, dir) = (&addresses, dir.path());
                let (at_work, deaths) = (&at_work, &deaths);
                scope.spawn(move || {
                    let mut sender = Sender {
                        dice: Dice(seed + n),
                        addresses,
                        hanging: Vec::new(),
                    };
                    let mut seed = seed + n;
                    while deaths.load(Relaxed) < DEATHS {
                        seed += CLIENTS;
                        let size = 1 + sender.dice.below(1500 * KIB);
                        let whole = content(seed, size);
                        let path = sender.upload(&whole);
                        // Stalled connections must not write any more.
                        for client in &mut sender.hanging {
                            let _ = client.try_send([0xdd; 1000]);
                        }
                        let file = dir.join(crate::serve_harness::id_of(&path));
                        assert_same(&std::fs::read(file).unwrap(), &whole);
                    }
                    at_work.fetch_sub(1, Relaxed);
                })
            })
            .collect();
        // The faults end with the last client, even one that failed.
        while senders.iter().any(|sender| !sender.is_finished()) {
            thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Relaxed);
        trouble.join().unwrap();
        assert_eq!(at_work.load(Relaxed), 0, "a client failed");
    });
}
