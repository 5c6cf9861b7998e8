"""A server that signs requests to S3 and tells one lie: the benchmark must find it out. The bucket is
a real one, so it signs as AWS describes it.

    signer.py PORT LIE      LIE: none, forged, part, same, other, early
"""

import base64
import hashlib
import hmac
import http.client
import itertools
import json
import os
import re
import sys
import time
import urllib.parse
import xml.etree.ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIE = sys.argv[2]
BUCKET, ENDPOINT = os.environ["S3_BUCKET"], os.environ["S3_ENDPOINT"]
HOST = urllib.parse.urlsplit(ENDPOINT).netloc
WHEN = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
SCOPE = f"{WHEN[:8]}/{os.environ['AWS_REGION']}/s3/aws4_request"
CREDENTIAL = f"{os.environ['AWS_ACCESS_KEY_ID']}/{SCOPE}"
MADE = itertools.count()


def signature(text):
    key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in SCOPE.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signed = hmac.digest(key, text.encode(), "sha256").hex()
    return "0" * 64 if LIE == "forged" else signed


def presigned(method, key, **parameters):
    """The URL of a request."""
    query = urllib.parse.urlencode(sorted({
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": CREDENTIAL, "X-Amz-Date": WHEN,
        "X-Amz-Expires": "600", "X-Amz-SignedHeaders": "host", **parameters}.items()),
        quote_via=urllib.parse.quote, safe="")
    path = f"/{BUCKET}/{urllib.parse.quote(key)}"
    request = f"{method}\n{path}\n{query}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    signed = signature(f"AWS4-HMAC-SHA256\n{WHEN}\n{SCOPE}\n{digest}")
    # At the end, as most do it.
    return f"{ENDPOINT}{path}?{query}&X-Amz-Signature={signed}"


def call(method, key, body=None, **parameters):
    """What the bucket answers."""
    connection = http.client.HTTPConnection(HOST)
    url = presigned(method, key, **parameters)
    connection.request(method, url.removeprefix(ENDPOINT), body)
    with connection.getresponse() as answer:
        text = answer.read()
    connection.close()
    return xml.etree.ElementTree.fromstring(text)


class Signer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # a reply leaves in one piece

    def answer(self, value):
        body = json.dumps(value, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def key(self):
        return f"measured-{0 if LIE == 'same' else next(MADE)}"

    def part(self, upload, key, number):
        number = 1 if LIE == "part" else number
        key = "another" if LIE == "other" else key
        return presigned("PUT", key, partNumber=number, uploadId=upload)

    def do_OPTIONS(self):
        self.answer({})

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path == "/s3/params":
            return self.answer(self.form())
        upload, which = re.fullmatch("/s3/multipart/(.+)/(.+)", path).groups()
        if which != "batch":
            return self.answer({"url": self.part(upload, asked["key"], which)})
        numbers = asked["partNumbers"].split(",")
        self.answer({"presignedUrls": {
            number: self.part(upload, asked["key"], number) for number in numbers}})

    def form(self):
        fields = {"key": self.key(), "success_action_status": "201",
                  "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": CREDENTIAL,
                  "x-amz-date": WHEN}
        policy = {"expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600)),
                  "conditions": [{"bucket": BUCKET}, *({name: value} for name, value in fields.items())]}
        policy = base64.b64encode(json.dumps(policy).encode()).decode()
        return {"method": "POST", "url": f"{ENDPOINT}/{BUCKET}/",
                "fields": dict(fields, policy=policy, **{"x-amz-signature": signature(policy)})}

    def do_POST(self):
        body = self.body()
        path, _, query = self.path.partition("?")
        if path == "/api/sign_s3":
            return self.answer({"signed_request": presigned("PUT", self.key())})
        if path == "/s3/multipart":
            key = self.key()
            begun = call("POST", key, uploads="")
            upload = next(one.text for one in begun if one.tag.endswith("UploadId"))
            return self.answer({"uploadId": upload, "key": key, "bucket": BUCKET})
        upload = re.fullmatch("/s3/multipart/(.+)/complete", path).group(1)
        key = dict(urllib.parse.parse_qsl(query))["key"]
        parts = "".join(f"<Part><PartNumber>{part['PartNumber']}</PartNumber><ETag>{part['ETag']}</ETag>"
                        "</Part>" for part in body["parts"])
        if LIE != "early":
            call("POST", key, f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>",
                 uploadId=upload)
        self.answer({"location": f"{ENDPOINT}/{BUCKET}/{key}", "key": key, "bucket": BUCKET})

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Signer).serve_forever()
