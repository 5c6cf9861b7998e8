"""The servers: how each is installed, started and stopped."""

import collections
import copy
import itertools
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START_PATIENCE = 20  # seconds
# In the order of the tables. The path is where uploads are created; the kind is what it speaks.
BUILT_IN = {
    "landfall": ("/files/", "tus"),
    "bare-loop": ("/files/", "tus"),
    "tusd": ("/files/", "tus"),
    "rustus": ("/files", "tus"),
    "node": ("/files/", "tus"),
    "nginx": ("/files/", "put"),
}
# The same on S3. A copier is no server: it uploads one file and ends.
ON_S3 = {
    "landfall": ("/files/", "tus"),
    "landfall-redis": ("/files/", "tus"),
    "tusd": ("/files/", "tus"),
    "node": ("/files/", "tus"),
    "aws": (None, "copier"),
    "rclone": (None, "copier"),
}
# Landfall on each cloud. The first is the one that the others are measured by.
ON_CLOUDS = {"landfall-s3": "Landfall on S3 (Garage)", "landfall-gcs": "Google Cloud Storage (the fake)",
             "landfall-azure": "Azure (Azurite)"}
# Those of the first that have hooks.
ON_HOOKS = ("landfall", "tusd", "node")
# Those whose settings crowds are measured with.
ON_CROWDS = ("landfall",)
# Who gives leave to upload: the path is one that is there.
ON_GRANTS = {
    "landfall": ("/files/", "tus"),
    "fastapi": ("/uploadjobs", "grants"),
}
# Who signs requests to S3: the path is one that is there.
ON_DIRECT = {
    "landfall": ("/s3/params", "signer"),
    "companion": ("/s3/params", "signer"),
}
TITLES = {"landfall": "Landfall", "bare-loop": "bare loop (recv + write)", "node": "@tus/server",
          "bare-hyper": "hyper + file", "bare-httparse": "httparse + file", "bare-memory": "httparse",
          "nginx": "nginx PUT", "fastapi": "by hand (FastAPI)", "companion": "@uppy/companion"}
TITLES_ON_S3 = {"landfall": "Landfall", "landfall-redis": "Landfall, leases in Redis",
                "node": "@tus/s3-store", "aws": "aws s3 cp", "rclone": "rclone copyto"}


class Missing(Exception):
    """A server that can't be measured here, and why."""


class Server:
    """A kind of server. `environment` is given to its start script."""

    def __init__(self, name, path, kind, environment, command=None):
        self.name, self.path, self.kind = name, path, kind
        self.title = TITLES.get(name, name)
        self.environment, self.template = environment, command
        self.script = os.path.join(BENCH, "peers", f"{name}.sh")
        self.no_files = False

    @classmethod
    def on_s3(cls, name, environment):
        """A built-in server on S3. Landfall may not write a byte to any file there."""
        one = cls(name, *ON_S3[name], environment)
        one.title = TITLES_ON_S3.get(name, name)
        one.script = os.path.join(BENCH, "peers", "s3", f"{name}.sh")
        one.no_files = name.startswith("landfall")
        return one

    @classmethod
    def on_cloud(cls, name, environment):
        """Landfall on a cloud. It may not write a byte to any file there."""
        one = cls(name, *BUILT_IN["landfall"], environment)
        one.title = ON_CLOUDS[name]
        one.script = os.path.join(BENCH, "peers", "clouds", f"{name}.sh")
        one.no_files = True
        return one

    @classmethod
    def on_layer(cls, name, environment):
        """Landfall, or a server with only its lower layers: bare-hyper, bare-httparse or bare-memory."""
        one = cls(name, *BUILT_IN["landfall"], dict(environment, LAYER=name.removeprefix("bare-")))
        if name != "landfall":
            one.script = os.path.join(BENCH, "peers", "layer.sh")
        return one

    @classmethod
    def on_direct(cls, name, environment):
        """A built-in server that signs."""
        one = cls(name, *ON_DIRECT[name], environment)
        one.script = os.path.join(BENCH, "peers", "direct", f"{name}.sh")
        return one

    def within(self, environment):
        """The same server in another environment."""
        other = copy.copy(self)
        other.environment = environment
        return other

    @classmethod
    def given(cls, text, environment):
        """A server from `--server name=CMD:PATH`, or `name=CMD:PATH:put`."""
        name, _, rest = text.partition("=")
        match = re.fullmatch(r"(.+?):(/[^:{}\s]*)(:put)?", rest)
        if not name or not match or "{port}" not in rest or "{data}" not in rest:
            raise SystemExit(f"--server {text!r}: want name=CMD:PATH with {{port}} and {{data}} in CMD")
        command, path, put = match.groups()
        return cls(name, path, "put" if put else "tus", environment, shlex.split(command))

    def ask(self, *words):
        """The lines that the start script prints."""
        done = subprocess.run(
            [self.script, *words], env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise Missing(why)
        return done.stdout.splitlines()

    def install(self):
        """Makes it ready to start, and returns its version."""
        if self.template:
            return shlex.join(self.template)
        self.ask("install")
        return " ".join(self.ask("version"))

    def command(self, port, data):
        """The command line that starts it."""
        if self.template:
            return [word.format(port=port, data=data) for word in self.template]
        return self.ask("command", str(port), data)

    def size(self):
        """Bytes of what has to be installed to run it; shared libraries of the system apart."""
        if self.template:
            files = [shutil.which(self.template[0]) or self.template[0]]
        else:
            files = self.ask("files")
        return sum(size_of(file) for file in files)


class Tail(threading.Thread):
    """Reads what a server without files logs, and keeps the end."""

    def __init__(self):
        super().__init__(daemon=True)
        self.reading, self.writing = os.pipe()
        self.kept = collections.deque(maxlen=64)
        self.start()

    def run(self):
        with open(self.reading, "rb", buffering=0) as pipe:
            while piece := pipe.read(4096):
                self.kept.append(piece)

    def close(self):
        """After the last writer is gone."""
        os.close(self.writing)
        self.join(5)


class Running:
    """A started server on an empty folder. `start_seconds`: from exec to the first answer.

    The folder is removed when it stops, unless `keep` leaves that to the one who made `root`. A
    server with `no_files` gets a file size limit of 0: whatever it writes to a file, on any file
    system, deleted or never named, is refused by the kernel and most likely its end.
    """

    def __init__(self, server, root, pin=None, keep=False):
        self.server, self.keep = server, keep
        self.port = free_port()
        self.data = tempfile.mkdtemp(prefix=f"{server.name}-", dir=root)
        self.process = self.log = None
        try:
            command = server.command(self.port, self.data)
            if pin:
                command = ["taskset", "-c", pin, *command]
            if server.no_files:
                command = ["prlimit", "--fsize=0", "--", *command]
            self.log = Tail() if server.no_files else tempfile.TemporaryFile(dir=root)
            out = self.log.writing if server.no_files else self.log
            began = time.perf_counter()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=server.environment, start_new_session=True)
            self.wait_for_answer(began)
            self.start_seconds = time.perf_counter() - began
        except BaseException:
            self.stop()
            raise

    def wait_for_answer(self, began):
        request = (f"OPTIONS {self.server.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
                   "Tus-Resumable: 1.0.0\r\nConnection: close\r\n\r\n").encode()
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.server.name} ended at its start: {self.last_words()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                    connection.sendall(request)
                    if connection.recv(12).startswith(b"HTTP/1."):
                        return
            except OSError:
                pass
            if time.perf_counter() - began > START_PATIENCE:
                raise RuntimeError(f"{self.server.name} gave no answer: {self.last_words()}")
            time.sleep(0.0005)

    def last_words(self):
        """The end of what the server logged."""
        if self.server.no_files:
            logged = b"".join(self.log.kept)
        else:
            self.log.seek(0)
            logged = self.log.read()
        return logged[-500:].decode(errors="replace").strip()

    def stop(self):
        """Ends it and removes its folder."""
        if self.process:
            end(self.process)
        if self.log:
            self.log.close()
        if not self.keep:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def end(process):
    """Ends a process that has a session of its own, and whatever it started there."""
    signal_group(process.pid, signal.SIGTERM)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        pass
    signal_group(process.pid, signal.SIGKILL)  # what stayed, children too
    process.wait()


def signal_group(group, number):
    """Signals what is left of a process group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


# Below the ports that the system hands out by itself, one of which may be somebody else's by the
# time a server listens.
PORTS = range(10_000, 32_000)
_next = itertools.count(random.SystemRandom().randrange(len(PORTS)))


def free_port():
    """A port that nobody listens on now, and that is given to nobody else."""
    while True:
        port = PORTS[next(_next) % len(PORTS)]
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def size_of(path):
    """Bytes of a file, or of all files below a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
    return total
