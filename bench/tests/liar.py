"""A tus server in memory that tells one lie: the benchmark must find it out.

    liar.py PORT LIE        LIE: none, status, offset, head, byte, short, drop
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIE = sys.argv[2]
UPLOADS = {}  # path -> bytearray


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

    def do_OPTIONS(self):
        self.answer(204, Tus_Extension="creation,creation-with-upload")

    def do_POST(self):
        path = f"/files/{len(UPLOADS)}"
        while path in UPLOADS:
            path += "x"
        upload = UPLOADS[path] = bytearray()
        sent = int(self.headers["Content-Length"])
        self.take(upload)
        offset = sent + 1 if LIE == "offset" and sent else sent
        self.answer(201, Location=path, Upload_Offset=offset)

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
        upload = bytes(UPLOADS[self.path])
        self.answer(200, upload[:-1] if LIE == "short" else upload)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Liar).serve_forever()
