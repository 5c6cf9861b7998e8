"""What servers on S3 need beside them: Garage, an S3 server that others wrote, and Redis."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request

from .servers import Missing, free_port
from .service import Service

BUCKET = "bench"
REGION = "garage"
# One node, nothing synced, nothing compressed: as little work for it as it can have.
CONFIG = """
metadata_dir = "{folder}/meta"
data_dir = "{folder}/data"
db_engine = "lmdb"
replication_factor = 1
compression_level = "none"
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "{region}"
api_bind_addr = "127.0.0.1:{s3}"
[admin]
api_bind_addr = "127.0.0.1:{admin}"
admin_token = "{token}"
metrics_token = "{token}"
"""


def program():
    """Where Garage is."""
    cargo = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    found = shutil.which("garage") or os.path.join(cargo, "bin", "garage")
    if not os.access(found, os.X_OK):
        raise Missing("garage is not installed: cargo install garage --version 2.5.0 --locked")
    return found


def version():
    """Its name and version."""
    done = subprocess.run([program(), "--version"], text=True, check=True, stdout=subprocess.PIPE)
    return "Garage " + re.search(r"\d+(\.\d+)+", done.stdout).group()


def calls(metrics):
    """Number of S3 requests by operation, from what Garage tells at /metrics."""
    return {name: int(count) for name, count in re.findall(
        r'^api_s3_request_counter\{api_endpoint="(\w+)"\} (\d+)$', metrics, re.MULTILINE)}


class Garage(Service):
    """One node with one empty bucket."""

    def __init__(self, root, pin=None):
        super().__init__("garage", root, pin)
        s3, self.admin = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{s3}"
        self.token = secrets.token_hex(16)
        self.key, self.secret = "GK" + secrets.token_hex(12), secrets.token_hex(32)
        path = os.path.join(self.folder, "garage.toml")
        with open(path, "w") as file:
            file.write(CONFIG.format(
                folder=self.folder, rpc=free_port(), s3=s3, admin=self.admin, region=REGION,
                secret=secrets.token_hex(32), token=self.token))
        environment = dict(
            os.environ, GARAGE_CONFIG_FILE=path, RUST_LOG="warn", GARAGE_DEFAULT_BUCKET=BUCKET,
            GARAGE_DEFAULT_ACCESS_KEY=self.key, GARAGE_DEFAULT_SECRET_KEY=self.secret)
        try:
            self.launch([program(), "server", "--single-node", "--default-bucket"], environment,
                        self.bucket)
        except BaseException:
            self.stop()
            raise

    def environment(self, base):
        """The variables of a server on this bucket: these, and no settings of the user's."""
        own = {name: value for name, value in base.items() if not name.startswith("AWS_")}
        own.update(
            S3_ENDPOINT=self.endpoint, S3_BUCKET=BUCKET, AWS_REGION=REGION,
            AWS_DEFAULT_REGION=REGION, AWS_ACCESS_KEY_ID=self.key,
            AWS_SECRET_ACCESS_KEY=self.secret, AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")
        return own

    def ask(self, path):
        """An answer of its admin interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}{path}",
            headers={"Authorization": f"Bearer {self.token}"})
        # No proxy of the user's for loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return answer.read().decode()

    def bucket(self):
        """What is in the bucket: `objects`, `bytes`, `unfinishedMultipartUploads` and more."""
        return json.loads(self.ask(f"/v2/GetBucketInfo?globalAlias={BUCKET}"))

    def settled(self):
        """What is in the bucket once Garage's counters, which run behind, stand still."""
        seen, same = self.bucket(), 0
        for _ in range(100):
            time.sleep(0.05)
            seen, before = self.bucket(), seen
            same = same + 1 if seen == before else 0
            if same == 4:
                break
        return seen

    def calls(self):
        """Number of S3 requests so far, by operation."""
        return calls(self.ask("/metrics"))

    def calls_since(self, before):
        """The same, without those that were made before."""
        made = {name: count - before.get(name, 0) for name, count in self.calls().items()}
        return {name: count for name, count in made.items() if count}


class Redis(Service):
    """A Redis that keeps nothing on disk. One serves a whole run: Landfall trusts none that is
    younger than a lease can be, because leases may have been lost when it started."""

    def __init__(self, root):
        super().__init__("redis", root)
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}"
        try:
            self.launch(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                         "--appendonly", "no", "--dir", self.folder], dict(os.environ),
                        lambda: socket.create_connection(("127.0.0.1", port), 5).close())
        except BaseException:
            self.stop()
            raise
