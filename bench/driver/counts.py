"""What one request costs, in counts that do not depend on other work: instructions and allocations of the
program (Callgrind), and its system calls on sockets and files (strace).

The tools count only while a program that has started and is warm answers REQUESTS requests."""

import os
import queue
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from .servers import Missing, free_port, signal_group
from .service import Service

KINDS = {"small": "creation with 5 kB", "small-patch": "POST, then PATCH with 5 kB",
         "patch": "PATCH with 200 kB", "head": "HEAD"}
WARM_UP, REQUESTS = 150, 200
STARTED = 2.5  # seconds after which the program does no more of its start
ROUNDS, AGREE = 8, 0.005
SMALL, LARGE = 5000, 200_000  # bytes of a body
RECENT = 2.1  # seconds after which the store takes an upload for unchanged
LIMIT = 0.03
# How many reads a large body takes depends on how it arrives: 10.2 to 11.3 calls on a busy machine.
LIMITS = {("patch", "system calls"): 0.1}

# jemalloc's own functions: optimization leaves nothing of Rust's above them.
ALLOCATORS = re.compile(r"^_rjem_(malloc|calloc|realloc|mallocx|rallocx)$")
# Waiting and waking depend on time, these do not.
SYSTEM_CALLS = frozenset(
    "close dup fallocate fcntl fdatasync fstat fsync ftruncate getdents64 linkat lseek mkdirat newfstatat openat "
    "openat2 pread64 preadv pwrite64 pwritev read readv recvfrom renameat2 rename sendto statx unlinkat write "
    "writev".split())
# Not of a request: waking a thread by its eventfd, which takes 8 bytes, and what the store does by time. A request names
# files in a folder that is open; the store looks at the folder itself, by its path, and at its lock.
WAKES = re.compile(r"(read|write)\(.*(, 8 <unfinished|= 8$)")
BY_TIME = re.compile(r"\(AT_FDCWD|F_OFD_GETLK|S_IFDIR")


class Client:
    """One connection, and requests one after another."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = f"127.0.0.1:{port}"

    def ask(self, method, path, expected, fields=(), body=b""):
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", "Tus-Resumable: 1.0.0",
                *(f"{name}: {value}" for name, value in fields)]
        if method != "HEAD":
            head.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = self.socket.recv(65536)
            if not more:
                raise RuntimeError(f"{method}: the connection was closed")
            answer += more
        if not answer.startswith(b"HTTP/1.1 %d " % expected):
            raise RuntimeError(f"{method}: {answer.decode(errors='replace')}")
        return dict(line.split(": ", 1) for line in answer.decode().lower().split("\r\n") if ": " in line)

    def create(self, length, body=b""):
        kind = [("Content-Type", "application/offset+octet-stream")] if body else []
        metadata = ("Upload-Metadata", "filename cmVwb3J0LnBkZg==,filetype YXBwbGljYXRpb24vcGRm")
        fields = [("Upload-Length", length), metadata, *kind]
        location = self.ask("POST", "/files/", 201, fields, body)["location"]
        return location[location.index("/files/"):]

    def append(self, path, offset, body):
        fields = [("Upload-Offset", offset), ("Content-Type", "application/offset+octet-stream")]
        self.ask("PATCH", path, 204, fields, body)

    def prepare(self, kind, count):
        """A function that makes `count` requests; pairs of requests for small-patch."""
        if kind == "small":
            return lambda: [self.create(SMALL, b"x" * SMALL) for _ in range(count)]
        if kind == "small-patch":
            return lambda: [self.append(self.create(SMALL), 0, b"x" * SMALL) for _ in range(count)]
        if kind == "patch":
            path = self.create(LARGE * count)
            return lambda: [self.append(path, turn * LARGE, b"x" * LARGE) for turn in range(count)]
        path = self.create(SMALL)
        time.sleep(RECENT)
        return lambda: [self.ask("HEAD", path, 200) for _ in range(count)]

    def work(self, kind, count):
        self.prepare(kind, count)()


def run(program, wrapper, kind, root, processor, begin, end):
    """Starts the program, warms it up, and makes REQUESTS requests between `begin(pid)` and `end(pid)`."""
    # On one processor, so with one worker: Callgrind executes one thread at a time, and a worker that waits for
    # another one looks to the store like one that waits for a slow disk.
    with Service("counts", root, str(processor)) as service:
        port, data = free_port(), os.path.join(service.folder, "data")
        command = [*wrapper, program, "-host", "127.0.0.1", "-port", str(port), "-upload-dir", data,
                   "--durability", "none", "--log-level", "error"]
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("LANDFALL_")}
        client = service.launch(command, environment, lambda: Client(port))
        client.work(kind, WARM_UP)
        time.sleep(STARTED)
        client.work(kind, WARM_UP)
        pid = service.process.pid
        work = client.prepare(kind, REQUESTS)
        begin(pid)
        work()
        end(pid)
        client.socket.close()
        signal_group(pid, signal.SIGTERM)
        service.process.wait(60)


def with_callgrind(program, kind, root, processor):
    out = os.path.join(root, f"callgrind-{kind}")

    def control(option):
        return lambda pid: subprocess.run(["callgrind_control", option, str(pid)], check=True,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    # Not switched on for the requests only: the store would take the translation of their code for a slow disk.
    run(program, ["valgrind", "-q", "--tool=callgrind", "--compress-strings=no", f"--callgrind-out-file={out}"],
        kind, root, processor, control("--zero"), control("--instr=off"))
    found = read_callgrind(out)
    if not found["allocations"]:
        raise Missing(f"{program} has no symbols: build it with --config "
                      "'profile.release.package.landfall-server.strip=\"none\"'")
    return found


def read_callgrind(path):
    """Instructions, and calls of the allocator."""
    instructions = allocations = 0
    callee = ""
    with open(path, errors="replace") as file:
        for line in file:
            if line.startswith("cfn="):
                callee = line[4:].strip()
            elif line.startswith("calls=") and ALLOCATORS.search(callee):
                allocations += int(line[6:].split()[0])
            elif line.startswith(("summary:", "totals:")):
                instructions = int(line.split()[1])
    return {"instructions": instructions, "allocations": allocations}


def with_strace(program, kind, root, processor):
    out = os.path.join(root, f"strace-{kind}")
    tracer = None

    def attach(pid):
        nonlocal tracer
        tracer = subprocess.Popen(["strace", "-f", "-o", out, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        threads = len(os.listdir(f"/proc/{pid}/task"))
        attached = 0
        while attached < threads:
            line = tracer.stderr.readline()
            if not line:
                raise RuntimeError("strace does not attach")
            found = re.search(r"attached(?: with (\d+) threads)?", line)
            attached += int(found[1] or 1) if found else 0

    def detach(_):
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=60)

    run(program, [], kind, root, processor, attach, detach)
    return {"system calls": read_strace(out)}


def read_strace(path):
    calls = 0
    with open(path, errors="replace") as file:
        for line in file:
            called = re.match(r"\d+ +((\w+)\(.*)", line)
            if called and called[2] in SYSTEM_CALLS:
                calls += not WAKES.match(called[1]) and not BY_TIME.search(called[1])
    return calls


def least(count, rounds=ROUNDS):
    """The least of some counts: repeated until the two lowest agree, at most `rounds` times. More is other work:
    timers, and store calls on the blocking pool, since the store takes a program below Callgrind for slow."""
    runs = []
    while len(runs) < 2 or any(abs(a / b - 1) > AGREE for a, b in
                               (sorted(one[name] for one in runs)[:2] for name in runs[0])):
        if len(runs) == rounds:
            break
        runs.append(count())
    return {name: min(one[name] for one in runs) for name in runs[0]}


def measure(program, root, rounds=ROUNDS):
    """Counts per request, by kind of request."""
    for tool in ("valgrind", "strace"):
        try:
            subprocess.run([tool, "--version"], stdout=subprocess.DEVNULL, check=True)
        except (OSError, subprocess.CalledProcessError) as why:
            raise Missing(f"{tool} does not run: {why}") from why
    # Two at a time, each on a processor of its own: most of the time a program starts or waits.
    free, result = queue.SimpleQueue(), {kind: {} for kind in KINDS}
    processors = sorted(os.sched_getaffinity(0))[:2]
    for processor in processors:
        free.put(processor)

    def one(kind, count):
        processor = free.get()
        try:
            return kind, least(lambda: count(program, kind, root, processor), rounds)
        finally:
            free.put(processor)

    with ThreadPoolExecutor(len(processors)) as pool:
        started = [pool.submit(one, kind, count) for kind in KINDS for count in (with_callgrind, with_strace)]
        for kind, counted in (each.result() for each in started):
            result[kind] |= {name: round(value / REQUESTS, 2) for name, value in counted.items()}
    return result


def differences(baseline, measured, skip=()):
    """What a request costs more or less than in the baseline by more than its limit, as lines."""
    lines = []
    for kind, counts in baseline.items():
        for name, before in counts.items():
            now = measured[kind][name]
            limit = LIMITS.get((kind, name), LIMIT)
            if name not in skip and abs(now / before - 1) > limit:
                lines.append(f"{KINDS[kind]}: {name} {before:,.10g} before, {now:,.10g} now")
    return lines
