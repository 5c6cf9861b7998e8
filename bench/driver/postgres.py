"""PostgreSQL, in which Landfall's events can wait."""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess

from .servers import Missing, free_port, signal_group
from .service import PATIENCE, Service

USER = "landfall"


def program(name):
    """A program of PostgreSQL: of the newest version that Debian has, which keeps them out of
    $PATH, or the one in $PATH."""
    versions = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"),
                      key=lambda path: int(path.split("/")[4]))
    found = versions[-1] if versions else shutil.which(name)
    if not found:
        raise Missing(f"{name} of PostgreSQL is not installed")
    return found


def version():
    """Its name and version."""
    done = subprocess.run([program("postgres"), "--version"], text=True, check=True,
                          stdout=subprocess.PIPE)
    return "PostgreSQL " + re.search(r"\d+(\.\d+)*", done.stdout).group()


def unprivileged():
    """PostgreSQL does not run as root: whom root runs it as, or None."""
    if os.getuid():
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


class Postgres(Service):
    """A new server, everything at its default but that nobody has to say a password."""

    def __init__(self, root, pin=None):
        super().__init__("postgres", root, pin)
        port, data = free_port(), os.path.join(self.folder, "data")
        self.url = f"postgres://{USER}@127.0.0.1:{port}/postgres"
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("PG")}
        as_owner = []
        try:
            owner = unprivileged()
            if owner:
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
                os.chmod(root, 0o711)  # it has to get to its folder
                as_owner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}",
                            "--clear-groups", "--"]
            made = subprocess.run(
                [*as_owner, program("initdb"), "--no-sync", "--auth=trust", f"--username={USER}",
                 "--encoding=UTF8", "--locale=C", f"--pgdata={data}"], cwd="/", env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, check=False)
            if made.returncode:
                raise RuntimeError(f"initdb failed: {made.stderr.strip()[-500:]}")
            ready = [program("pg_isready"), "--quiet", f"--dbname={self.url}"]
            self.launch([*as_owner, program("postgres"), "-D", data, "-h", "127.0.0.1", "-p",
                         str(port), "-c", "unix_socket_directories="], environment,
                        lambda: self.ask(ready, environment))
        except BaseException:
            self.stop()
            raise

    def analyze(self):
        """Plans by what is in the tables, as its own daemon would a minute later."""
        subprocess.run([program("psql"), "--quiet", f"--dbname={self.url}", "--command=ANALYZE"],
                       timeout=PATIENCE, check=True)

    @staticmethod
    def ask(ready, environment):
        """OSError until it lets anyone in, which is later than it listens."""
        if subprocess.run(ready, env=environment, timeout=PATIENCE, check=False).returncode:
            raise OSError("it lets nobody in")

    def stop(self):
        """Ends it at once, but by itself: killed, it would leave a piece of shared memory."""
        if self.process and self.process.poll() is None:
            signal_group(self.process.pid, signal.SIGQUIT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        super().stop()
