"""A tus server in memory that tells one lie: the benchmark must find it out.

    liar.py PORT LIE        LIE: none, status, offset, head, byte, short, drop
                            or of hooks: unasked, lost, disorder, twice
                            or of grants: free, same, forgotten, unheard, again
"""

import http.client
import itertools
import json
import os
import queue
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIE = sys.argv[2]
UPLOADS = {}  # path -> bytearray
# Counters, because requests come in many threads at a time.
CREATED = itertools.count()
TOLD = itertools.count()
HOOK = urllib.parse.urlsplit(os.environ.get("BENCH_HOOK_URL", ""))
EVENTS = os.environ.get("BENCH_HOOK_EVENTS", "").split(",")
NUMBERS = itertools.count(1)
OWN = threading.local()
GRANTED = os.environ.get("BENCH_GRANTS") == "--require-grant"
GRANTS = {}  # request id -> row
TOKENS = {}  # token -> request id
HEARD = itertools.count()
LISTENERS = []


def call(event, upload, number=None):
    """Asks or tells the application behind the hook, if it wants to hear of that."""
    if event not in EVENTS:
        return
    if not hasattr(OWN, "connection"):
        OWN.connection = http.client.HTTPConnection(HOOK.hostname, HOOK.port)
    number = number or next(NUMBERS)
    OWN.connection.request(
        "POST", HOOK.path, f'{{"Type":"{event}","Event":{{"Upload":{{"ID":"{upload}"}}}}}}',
        {"webhook-id": f"m{number}", "Landfall-Sequence": str(number)})
    OWN.connection.getresponse().read()


class Liar(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # a reply leaves in one piece

    def answer(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Tus-Resumable", "1.0.0")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def take(self, upload):
        body = bytearray(self.rfile.read(int(self.headers["Content-Length"])))
        if LIE == "byte" and body:
            body[len(body) // 2] ^= 1
        if LIE == "drop" and len(body) > 5000:
            return  # never kept, but acknowledged
        upload += body

    def tell(self, path):
        """The two events of an upload; those of one of them are not told as they should be."""
        lie = LIE if next(TOLD) == 400 else "none"
        first, second = next(NUMBERS), next(NUMBERS)
        if lie == "disorder":
            call("post-finish", path, second)
        call("post-create", path, first)
        if lie != "lost":
            call("post-finish", path, second)
        if lie == "twice":
            call("post-finish", path, second + 1)

    def grant(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = f"lft_{1 if LIE == 'same' else len(TOKENS):043}"
        row = {"request_id": asked["id"], "filename": asked["filename"], "size": asked["filesize"],
               "state": "received", "more": ""}
        GRANTS[asked["id"]], TOKENS[token] = row, asked["id"]
        self.answer_json(201, {"upload_token": token, **row})

    def answer_json(self, status, value):
        self.answer(status, json.dumps(value, separators=(",", ":")).encode())

    def listen(self):
        """What is told from now on, in chunks."""
        mine = queue.Queue()
        LISTENERS.append(mine)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            text = mine.get()
            self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
            self.wfile.flush()

    def completed(self, request):
        """One listener does not hear of one completion as it should."""
        number = next(HEARD)
        for which, listener in enumerate(list(LISTENERS)):
            times = 1
            if which == 7 and number > 0 and number % 5 == 0:
                times = {"unheard": 0, "again": 2}.get(LIE, 1)
            for again in range(times):
                listener.put(f"id: {2 * number + again + 1}\nevent: UploadCompleted\n"
                             f'data: {{"upload":{{"request_id":"{request}"}}}}\n\n')

    def do_OPTIONS(self):
        self.answer(204, Tus_Extension="creation,creation-with-upload")

    def do_POST(self):
        if self.path == "/uploadjobs":
            return self.grant()
        request = TOKENS.get(self.headers["Upload-Token"])
        if GRANTED and not request and LIE != "free":
            return self.answer(401)
        number = next(CREATED)
        path = f"/files/{number}"
        if LIE != "unasked" or number != 350:
            call("pre-create", "")
        upload = UPLOADS[path] = bytearray()
        sent = int(self.headers["Content-Length"])
        self.take(upload)
        self.tell(path)
        offset = sent + 1 if LIE == "offset" and sent else sent
        self.answer(201, Location=path, Upload_Offset=offset)
        if request and sent:
            self.completed(request)

    def do_PATCH(self):
        upload, sent = UPLOADS[self.path], int(self.headers["Content-Length"])
        offset = int(self.headers["Upload-Offset"]) + sent
        self.take(upload)
        self.answer(200 if LIE == "status" else 204,
                    Upload_Offset=offset + 1 if LIE == "offset" else offset)

    def do_HEAD(self):
        kept = len(UPLOADS[self.path])
        self.answer(200, Upload_Offset=kept - 1 if LIE == "head" else kept)

    def do_GET(self):
        if self.path == "/uploadjobs/events":
            return self.listen()
        if self.path.startswith("/uploadjobs/"):
            row = GRANTS[self.path.removeprefix("/uploadjobs/")]
            return self.answer_json(200, row | ({"size": 1} if LIE == "forgotten" else {}))
        upload = bytes(UPLOADS[self.path])
        self.answer(200, upload[:-1] if LIE == "short" else upload)

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Liar).serve_forever()
