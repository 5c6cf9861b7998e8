"""The work on Google Cloud Storage and Azure, beside the same on S3: Landfall on each, in one run.

Garage is S3, the fake of the tests Google Cloud Storage, Azurite Azure.
"""

import os
import re
import threading
import time
import urllib.parse
import urllib.request

from . import garage
from .modes import BROWSER_CHUNK, GIB, MIB, Mode, Nothing, run_once, show_bytes
from .servers import Missing, free_port
from .service import Service

BUCKET = "bench"
LOOK_EVERY = 0.25  # seconds, while objects are counted
# Azurite's own account and key, and a signature for everything in it, which are public.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SIGNATURE = ("sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&"
             "sig=N5uz2Xeys0I28PmqjyjbsCHaHaD7oWInzBEyCFTa6O8%3D")
FOREIGN = ("AZURE_", "GCE_", "GCS_", "GOOGLE_", "STORAGE_", "AWS_")


def modes(quick=False):
    """All kinds of work, at full size or small enough for a smoke test."""
    big, four, browser = GIB, 256 * MIB, GIB
    if quick:
        big, four, browser = 64 * MIB, 32 * MIB, 32 * MIB
    return {mode.name: mode for mode in [
        Mode("clouds-big", f"{show_bytes(big)} in one PATCH", "stream", [1, big, big], memory=5 * big),
        Mode("clouds-four", f"one PATCH of {show_bytes(four)} on each of 4 connections", "stream",
             [4, four, four], memory=20 * four),
        Mode("clouds-browser", f"an upload of {show_bytes(browser)}, one connection", "stream",
             [1, browser, BROWSER_CHUNK], memory=5 * browser),
    ]}


def takes_part(server, mode):
    """All do all work."""
    return True


def fetch(url, headers=None):
    """The text of a response, by no proxy of the user's."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=headers or {})
    with opener.open(request, timeout=20) as answer:
        return answer.read().decode()


class Garage(garage.Garage):
    """S3."""

    def objects(self):
        """The number of objects."""
        return self.bucket()["objects"]


class Google(Service):
    """The fake of Google Cloud Storage, which issues its tokens itself."""

    def __init__(self, root, program):
        super().__init__("gcs", root)
        port = free_port()
        self.host = f"127.0.0.1:{port}"
        try:
            self.launch([program, str(port), BUCKET], dict(os.environ), self.sign_in)
        except BaseException:
            self.stop()
            raise

    def sign_in(self):
        """Gets its token."""
        url = f"http://{self.host}/computeMetadata/v1/instance/service-accounts/default/token"
        self.token = re.search(r'"access_token":"([^"]+)"', fetch(url, {"Metadata-Flavor": "Google"})).group(1)

    def environment(self, base):
        """The variables of a server on this bucket, without settings of the user's."""
        return without_settings(base, CLOUD_BUCKET=BUCKET, CLOUD_ENDPOINT=f"http://{self.host}",
                                GCE_METADATA_HOST=self.host, HOME="/nonexistent")

    def objects(self):
        """The number of objects; a page is enough for a GiB."""
        page = fetch(f"http://{self.host}/storage/v1/b/{BUCKET}/o?maxResults=1000",
                     {"Authorization": f"Bearer {self.token}"})
        return page.count('"kind":"storage#object"')


class Azure(Service):
    """Azurite; the server makes the container."""

    def __init__(self, root):
        super().__init__("azure", root)
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        program = os.path.join(cache, "landfall-tests", "azurite", "node_modules", ".bin", "azurite-blob")
        try:
            if not os.access(program, os.X_OK):
                raise Missing("Azurite is not installed: scripts/install-test-deps bench")
            self.launch([program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location",
                         self.folder, "--disableTelemetry", "--silent"], dict(os.environ),
                        lambda: self.listed(""))
        except BaseException:
            self.stop()
            raise

    def listed(self, path):
        """A response of its; an error of it is one, too."""
        try:
            return fetch(f"{self.endpoint}/{ACCOUNT}{path}")
        except urllib.error.HTTPError as refused:
            return refused.read().decode()

    def environment(self, base):
        """The variables of a server on this container, without settings of the user's."""
        return without_settings(base, CLOUD_BUCKET=BUCKET, CLOUD_ENDPOINT=self.endpoint,
                                AZURE_STORAGE_ACCOUNT=ACCOUNT, AZURE_STORAGE_KEY=KEY)

    def objects(self):
        """The number of blobs and of blocks that are not committed yet."""
        names = re.findall("<Name>([^<]+)</Name>", self.listed(
            f"/{BUCKET}?restype=container&comp=list&include=uncommittedblobs&{SIGNATURE}"))
        blocks = 0
        for name in names:
            if "/" not in name and not name.endswith(".info"):
                blocks += self.listed(f"/{BUCKET}/{urllib.parse.quote(name)}?comp=blocklist"
                                      f"&blocklisttype=uncommitted&{SIGNATURE}").count("<Block>")
        return len(names) + blocks


def without_settings(base, **own):
    """An environment without settings and credentials of clouds but these."""
    kept = {name: value for name, value in base.items() if not name.startswith(FOREIGN)}
    return dict(kept, **own)


class Behind(Nothing):
    """What is behind a server: a fresh service. The server itself counts its calls, retries apart; objects are counted
    while the work lasts if it is `in_pieces`."""

    def __init__(self, server, root, in_pieces):
        self.service = start(server, root)
        self.server = server.within(self.service.environment(server.environment))
        self.in_pieces, self.most = in_pieces, 0
        self.over = threading.Event()

    def arguments(self, mode, address):
        self.address = address
        return super().arguments(mode, address)

    def calls(self):
        """Calls so far, by operation."""
        page = fetch(f"http://{self.address}/metrics")
        found = re.findall(r'^landfall_(?:s3|cloud)_calls_total\{operation="([^"]+)"\} (\d+)', page, re.MULTILINE)
        return {name: int(count) for name, count in found}

    def watch(self):
        """Counts objects again and again."""
        while not self.over.wait(LOOK_EVERY):
            self.most = max(self.most, self.service.objects())

    def begin(self, pids, made):
        self.before, self.cpu = self.calls(), self.service.cpu_seconds()
        self.watching = threading.Thread(target=self.watch, daemon=True)
        if self.in_pieces:
            self.there = self.service.objects()
            self.watching.start()

    def end(self, pids):
        cpu = self.service.cpu_seconds() - self.cpu
        self.over.set()
        calls = {name: count - self.before.get(name, 0) for name, count in self.calls().items()}
        figures = {"behind_cpu_s": round(cpu, 6), "calls": {name: count for name, count in calls.items() if count}}
        if self.in_pieces:
            self.watching.join()
            figures["most_objects"] = self.most - self.there
        return figures, cpu

    def __exit__(self, *_):
        self.over.set()
        self.service.stop()


def start(server, root):
    """The service of a server."""
    if server.name == "landfall-gcs":
        return Google(root, server.environment["GCS_FAKE"])
    return Azure(root) if server.name == "landfall-azure" else Garage(root)


def measure(server, mode, loadgen, root, disk, pin=(None, None)):
    """One run of one kind of work; RuntimeError when anything comes out wrong."""
    in_pieces = mode.arguments[2] < mode.arguments[1]
    result = run_once(server, mode, loadgen, root, pin, behind=lambda one: Behind(one, root, in_pieces))
    gib = result["bytes"] / GIB
    result["behind_cpu_s_per_gib"] = result["behind_cpu_s"] / gib
    result["calls_per_gib"] = sum(result["calls"].values()) / gib
    if in_pieces:
        result["objects_per_gib"] = result["most_objects"] / gib
    return result
