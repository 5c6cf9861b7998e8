"""The servers: how each is installed, started and stopped."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START_PATIENCE = 20  # seconds
# In the order of the tables. The path is where uploads are created; the kind is what it speaks.
BUILT_IN = {
    "landfall": ("/files/", "tus"),
    "floor": ("/files/", "tus"),
    "tusd": ("/files/", "tus"),
    "rustus": ("/files", "tus"),
    "node": ("/files/", "tus"),
    "nginx": ("/files/", "put"),
}
TITLES = {"landfall": "Landfall", "node": "@tus/server", "nginx": "nginx PUT"}


class Missing(Exception):
    """A server that can't be measured here, and why."""


class Server:
    """A kind of server. `environment` is given to its start script."""

    def __init__(self, name, path, kind, environment, command=None):
        self.name, self.path, self.kind = name, path, kind
        self.title = TITLES.get(name, name)
        self.environment, self.template = environment, command
        self.script = os.path.join(BENCH, "peers", f"{name}.sh")

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


class Running:
    """A started server on an empty folder. `start_seconds`: from exec to the first answer.

    The folder is removed when it stops, unless `keep` leaves that to the one who made `root`.
    """

    def __init__(self, server, root, pin=None, keep=False):
        self.server, self.keep = server, keep
        self.port = free_port()
        self.data = tempfile.mkdtemp(prefix=f"{server.name}-", dir=root)
        self.process = None
        try:
            command = server.command(self.port, self.data)
            if pin:
                command = ["taskset", "-c", pin, *command]
            self.log = tempfile.TemporaryFile(dir=root)
            began = time.perf_counter()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
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
        self.log.seek(0)
        return self.log.read()[-500:].decode(errors="replace").strip()

    def stop(self):
        """Ends it and removes its folder."""
        if self.process:
            # The session that it was started in, and nothing else.
            signal_group(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                pass
            signal_group(self.process.pid, signal.SIGKILL)  # what stayed, children too
            self.process.wait()
            self.log.close()
        if not self.keep:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def signal_group(group, number):
    """Signals what is left of a process group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def size_of(path):
    """Bytes of a file, or of all files below a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
    return total
