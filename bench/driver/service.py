"""What stands beside a server while it is measured."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from . import proc
from .servers import signal_group

PATIENCE = 20  # seconds


class Service:
    """A process on loopback with a folder of its own, ended and removed with it. `pin`: the processors
    that it may use."""

    def __init__(self, name, root, pin=None):
        self.folder = tempfile.mkdtemp(prefix=f"{name}-", dir=root)
        self.log = os.path.join(self.folder, "log")
        self.process, self.pin = None, pin

    def launch(self, command, environment, ready):
        """Starts it and waits until `ready` does not raise OSError."""
        if self.pin:
            command = ["taskset", "-c", self.pin, *command]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True)
        began = time.monotonic()
        while True:
            try:
                return ready()
            except OSError as why:
                if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                    raise RuntimeError(f"{command[0]} did not start: {self.last_words() or why}") \
                        from why
            time.sleep(0.01)

    def last_words(self):
        """The end of what it logged."""
        with open(self.log, "rb") as log:
            return log.read()[-500:].decode(errors="replace").strip()

    def cpu_seconds(self):
        """Processor time it took so far, with that of processes of its own that have ended."""
        pid = self.process.pid
        return proc.cpu_seconds(proc.tree(pid)) + proc.ended_cpu_seconds(pid)

    def memory_kib(self):
        """Resident memory."""
        return proc.memory_kib(proc.tree(self.process.pid), "VmRSS")

    def stop(self):
        """Kills it, since nothing of it is kept, and removes its folder."""
        if self.process:
            signal_group(self.process.pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
