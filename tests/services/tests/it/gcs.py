"""Google's SDK for Python drives a server that claims to be Google Cloud Storage.

    gcs.py strict ENDPOINT KEY_FILE     the strict fake, with its bucket "sdk"
    gcs.py outsider ENDPOINT BUCKET     an emulator, which ignores preconditions
"""

import base64
import io
import json
import os
import sys
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core import exceptions
from google.auth import compute_engine, credentials, identity_pool
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.cloud import storage
import google.oauth2.credentials
from google.oauth2 import service_account
import google_crc32c
import requests

GRANULE = 256 * 1024
SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]


def expect(error, call, *arguments, **named):
    """Returns the exception that a call has to end with."""
    try:
        value = call(*arguments, **named)
    except error as found:
        return found
    raise AssertionError(f"{call} returned {value!r} instead of {error.__name__}")


def equal(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def crc32c(content):
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


def random(size):
    return os.urandom(size)


class Strict:
    """One method for each part of the API, run in the order of their definition."""

    def __init__(self, endpoint, key_file):
        self.endpoint, self.key_file = endpoint, key_file
        self.client = storage.Client.from_service_account_json(
            key_file, client_options={"api_endpoint": endpoint})
        self.bucket = self.client.bucket("sdk")

    def blob(self, name):
        return self.bucket.blob(name)

    def stored(self, name, content=b"x"):
        blob = self.blob(name)
        blob.upload_from_string(content, retry=None)
        return blob

    def raw(self, method, path, **arguments):
        """A request without the SDK's checks; its token is valid."""
        url = path if path.startswith("http") else self.endpoint + path
        return self.client._http.request(method, url, **arguments)

    def test_buckets(self):
        made = self.client.create_bucket("made", project="test-project")
        equal(self.client.get_bucket("made").name, "made")
        expect(exceptions.Conflict, self.client.create_bucket, "made", project="test-project")
        expect(exceptions.NotFound, self.client.get_bucket, "missing")
        wanted = ["storage.objects.create", "storage.objects.delete"]
        equal(made.test_iam_permissions(wanted), wanted)
        equal(made.exists(), True)

    def test_insert_in_one_request(self):
        content = random(100_000) + b"\r\n--=="
        blob = self.blob("one/a b+c%2F_ü.bin")
        blob.metadata = {"filename": "ü", "x": ""}
        blob.content_disposition = "attachment"
        blob.upload_from_string(content, content_type="text/x-test", if_generation_match=0)
        blob.reload()
        equal((blob.size, blob.content_type, blob.crc32c), (len(content), "text/x-test", crc32c(content)))
        equal(blob.metadata, {"filename": "ü", "x": ""})
        assert blob.md5_hash and blob.generation and blob.metageneration == 1 and blob.component_count is None
        equal(self.blob(blob.name).download_as_bytes(), content)
        equal(self.stored("empty", b"").download_as_bytes(), b"")
        equal(requests.get(blob.media_link, headers={"Authorization": "Bearer " + self.client._credentials.token}).content, content)

    def test_checksums(self):
        for field, value in [("md5_hash", base64.b64encode(bytes(16)).decode()), ("crc32c", "AAAAAA==")]:
            blob = self.blob("wrong")
            setattr(blob, field, value)
            expect(exceptions.BadRequest, blob.upload_from_string, b"content", checksum=None)
            equal(self.blob("wrong").exists(), False)
        for checksum in ["md5", "crc32c"]:
            self.blob(f"right-{checksum}").upload_from_string(b"content", checksum=checksum)

    def test_resumable_upload_in_four_chunks(self):
        content = random(4 * GRANULE)
        blob = self.bucket.blob("resumable", chunk_size=GRANULE)
        blob.upload_from_file(io.BytesIO(content), size=len(content), content_type="video/x-test", if_generation_match=0)
        blob.reload()
        equal((blob.crc32c, blob.content_type), (crc32c(content), "video/x-test"))
        equal(blob.download_as_bytes(), content)
        # Of unknown length, the last chunk short.
        for number, length in enumerate([0, 5, GRANULE, 3 * GRANULE - 1, 3 * GRANULE + 1]):
            blob = self.bucket.blob(f"unknown-{number}", chunk_size=GRANULE)
            blob.upload_from_file(io.BytesIO(content[:length]))
            equal(blob.download_as_bytes(), content[:length])
        # The precondition is checked when it ends.
        blob = self.bucket.blob("resumable", chunk_size=GRANULE)
        expect(exceptions.PreconditionFailed, blob.upload_from_file, io.BytesIO(content), if_generation_match=0)

    def test_session(self):
        content = random(2 * GRANULE + 7)
        blob = self.blob("session")
        url = blob.create_resumable_upload_session(content_type="text/plain")

        def send(first, last, total="*", body=None):
            body = content[first:last + 1] if body is None else body
            # The URL is the credential.
            return requests.put(url, data=body, headers={"Content-Range": f"bytes {first}-{last}/{total}"}, allow_redirects=False)

        def query(total="*"):
            return requests.put(url, headers={"Content-Range": f"bytes */{total}"}, allow_redirects=False)

        equal((query().status_code, query().headers.get("Range")), (308, None))
        equal(send(GRANULE, 2 * GRANULE - 1).status_code, 503)
        equal(send(0, 99_999).status_code, 400)
        equal(send(0, GRANULE - 1, body=b"short").status_code, 400)
        for _ in range(2):
            answer = send(0, GRANULE - 1)
            equal((answer.status_code, answer.headers["Range"]), (308, f"bytes=0-{GRANULE - 1}"))
        # A chunk that begins before the stored offset adds its new bytes only.
        equal(send(0, 2 * GRANULE - 1).headers["Range"], f"bytes=0-{2 * GRANULE - 1}")
        equal(query(len(content)).headers["Range"], f"bytes=0-{2 * GRANULE - 1}")
        equal(blob.exists(), False)
        answer = send(2 * GRANULE, len(content) - 1, len(content))
        equal((answer.status_code, answer.json()["crc32c"]), (200, crc32c(content)))
        equal((query().status_code, query().json()["generation"]), (200, answer.json()["generation"]))
        equal(blob.download_as_bytes(), content)

        url = self.blob("cancelled").create_resumable_upload_session()
        equal(send(0, GRANULE - 1).status_code, 308)
        equal(requests.delete(url).status_code, 499)
        assert 400 <= query().status_code < 500
        equal(self.blob("cancelled").exists(), False)
        equal(requests.put(url.replace("upload_id=", "upload_id=0")).status_code, 404)

        # A checksum of the whole with the last chunk.
        url = self.blob("checked").create_resumable_upload_session()
        answer = requests.put(url, data=b"abc", headers={"x-goog-hash": "crc32c=AAAAAA=="})
        equal((answer.status_code, self.blob("checked").exists()), (400, False))

    def test_ranges(self):
        content = bytes(range(200))
        blob = self.stored("range", content)
        equal(blob.download_as_bytes(start=10, end=19), content[10:20])
        equal(blob.download_as_bytes(start=190), content[190:])
        equal(blob.download_as_bytes(start=190, end=1000), content[190:])
        expect(exceptions.RequestRangeNotSatisfiable, blob.download_as_bytes, start=200)
        path = "/storage/v1/b/sdk/o/range?alt=media"
        answer = self.raw("GET", path, headers={"Range": "bytes=-3"})
        equal((answer.status_code, answer.content, answer.headers["Content-Range"]), (206, content[-3:], "bytes 197-199/200"))
        equal(answer.headers["x-goog-hash"].split(",")[0], "crc32c=" + crc32c(content))
        chunked = self.bucket.blob("range", chunk_size=GRANULE)
        equal(chunked.download_as_bytes(), content)
        old = blob.generation
        time.sleep(1.05)
        self.stored("range", b"new")
        expect(exceptions.NotFound, self.bucket.blob("range", generation=old).download_as_bytes)
        equal(self.blob("range").download_as_bytes(), b"new")

    def test_compose(self):
        contents = [random(1000), b"", random(300_000)]
        sources = [self.stored(f"part-{number}", content) for number, content in enumerate(contents)]
        whole = self.blob("whole")
        whole.content_type, whole.metadata = "text/x-whole", {"a": "b"}
        whole.compose(sources, if_generation_match=0, if_source_generation_match=[blob.generation for blob in sources])
        whole.reload()
        equal((whole.component_count, whole.md5_hash, whole.crc32c), (3, None, crc32c(b"".join(contents))))
        equal((whole.content_type, whole.metadata), ("text/x-whole", {"a": "b"}))
        equal(whole.download_as_bytes(), b"".join(contents))
        equal(whole.download_as_bytes(start=990, end=1009), contents[0][990:] + contents[2][:10])
        equal([blob.exists() for blob in sources], [True] * 3)
        # Onto itself, as an append.
        time.sleep(1.05)
        whole.compose([whole, sources[0]], if_generation_match=whole.generation)
        whole.reload()
        equal((whole.component_count, whole.size), (4, 302_000))

        other = self.blob("other")
        expect(exceptions.PreconditionFailed, other.compose, sources, if_source_generation_match=[sources[0].generation, 7, None])
        sources[0]._set_properties({"name": sources[0].name, "generation": "7"})
        expect(exceptions.NotFound, other.compose, sources)
        expect(exceptions.NotFound, other.compose, [self.blob("missing")])
        sources = sources[1:]
        expect(exceptions.PreconditionFailed, self.blob("whole").compose, sources, if_generation_match=0)
        expect(exceptions.BadRequest, other.compose, [sources[0]] * 33)
        expect(exceptions.BadRequest, other.compose, [])
        other.compose([sources[0]] * 32)
        equal(other.exists(), True)

    def test_list(self):
        names = ["list/a", "list/a/1", "list/a/2", "list/b", "list/b_0", "list/b_10", "list/b_9", "list/c/1", "list/ü"]
        for name in reversed(names):
            self.stored(name)
        for size in [1, 2, 3, 1000]:
            equal([blob.name for blob in self.client.list_blobs("sdk", prefix="list/", page_size=size)], names)
            found = self.client.list_blobs("sdk", prefix="list/", delimiter="/", page_size=size)
            equal([blob.name for blob in found], [name for name in names if name.count("/") == 1])
            equal(sorted(found.prefixes), ["list/a/", "list/c/"])
        found = self.client.list_blobs("sdk", start_offset="list/a/2", end_offset="list/b_10", fields="items(name),nextPageToken")
        equal([blob.name for blob in found], ["list/a/2", "list/b", "list/b_0"])
        equal(list(self.client.list_blobs("sdk", prefix="nothing")), [])
        expect(exceptions.NotFound, list, self.client.list_blobs("missing"))

    def test_preconditions(self):
        blob = self.stored("condition")
        for wrong in [0, blob.generation + 1]:
            error = expect(exceptions.PreconditionFailed, blob.upload_from_string, b"y", if_generation_match=wrong)
            expect(exceptions.PreconditionFailed, blob.delete, if_generation_match=wrong)
            other = self.blob("condition")
            other.metadata = {"wrong": "yes"}
            expect(exceptions.PreconditionFailed, other.patch, if_generation_match=wrong)
        equal(error.errors[0]["reason"] if error.errors else "conditionNotMet", "conditionNotMet")
        expect(exceptions.PreconditionFailed, self.blob("absent").upload_from_string, b"y", if_generation_match=5)
        expect(exceptions.PreconditionFailed, blob.reload, if_metageneration_match=2)
        time.sleep(1.05)
        before = blob.generation
        blob.upload_from_string(b"y", if_generation_match=before)
        assert blob.generation > before
        blob.metadata = {"a": "1", "b": "2"}
        blob.patch(if_metageneration_match=1, retry=None)
        equal((blob.metageneration, blob.metadata), (2, {"a": "1", "b": "2"}))
        time.sleep(1.05)
        blob.metadata = {"a": None, "c": "3"}
        blob.patch(if_metageneration_match=2, retry=None)
        blob.reload()
        equal((blob.metageneration, blob.metadata), (3, {"b": "2", "c": "3"}))
        blob.delete(if_generation_match=blob.generation)
        expect(exceptions.NotFound, blob.delete)
        expect(exceptions.NotFound, blob.reload)
        answer = self.raw("GET", f"/storage/v1/b/sdk/o/whole?ifGenerationNotMatch={self.bucket.get_blob('whole').generation}")
        equal(answer.status_code, 304)

    def test_batch(self):
        blobs = [self.stored(f"batch/{number}") for number in range(100)]
        with self.client.batch() as batch:
            for blob in blobs[:3]:
                blob.delete()
        equal([response.status_code for response in batch._responses], [204] * 3)
        with self.client.batch(raise_exception=False) as batch:
            blobs[0].delete()
            blobs[3].delete(if_generation_match=7)
            blobs[4].metadata = {"a": "b"}
            blobs[4].patch()
            blobs[5].delete(if_generation_match=blobs[5].generation)
        equal([response.status_code for response in batch._responses], [404, 412, 200, 204])
        equal(blobs[4].metadata, {"a": "b"})
        equal(batch._responses[0].json()["error"]["errors"][0]["reason"], "notFound")
        with self.client.batch(raise_exception=False) as batch:
            for number in range(100):
                self.blob(f"batch/{number}").delete()
        equal(list(self.client.list_blobs("sdk", prefix="batch/")), [])

        def part(number):
            return ("--b\r\nContent-Type: application/http\r\nContent-ID: <x+%d>\r\n\r\n"
                    "DELETE /storage/v1/b/sdk/o/batch%%2F%d HTTP/1.1\r\n\r\n\r\n" % (number, number))

        for count, status in [(100, 200), (101, 400), (0, 400)]:
            body = "".join(map(part, range(count))) + "--b--"
            answer = self.raw("POST", "/batch/storage/v1", data=body, headers={"Content-Type": "multipart/mixed; boundary=b"})
            equal(answer.status_code, status)
        body = part(0).replace("/storage/v1/", "/upload/storage/v1/") + "--b--"
        answer = self.raw("POST", "/batch/storage/v1", data=body, headers={"Content-Type": "multipart/mixed; boundary=b"})
        equal(answer.status_code, 400)

    def test_rewrite(self):
        content = random(50_000)
        source = self.blob("from")
        source.metadata = {"a": "b"}
        source.upload_from_string(content, content_type="text/x-from")
        target = self.blob("to/there")
        equal(target.rewrite(source, if_generation_match=0, if_source_generation_match=source.generation)[0], None)
        target.reload()
        equal((target.metadata, target.content_type, target.crc32c), ({"a": "b"}, "text/x-from", crc32c(content)))
        expect(exceptions.PreconditionFailed, target.rewrite, source, if_generation_match=0)
        expect(exceptions.PreconditionFailed, self.blob("no").rewrite, source, if_source_generation_match=7)
        expect(exceptions.NotFound, self.blob("no").rewrite, self.blob("missing"))

    def test_rate_limit(self):
        blob = self.stored("limited", b"1")
        started = time.monotonic()
        error = expect(exceptions.TooManyRequests, blob.upload_from_string, b"2", retry=None)
        assert "exceeded the rate limit" in str(error), error
        answer = self.raw("POST", "/upload/storage/v1/b/sdk/o?uploadType=media&name=limited", data=b"3")
        equal((answer.status_code, answer.json()["error"]["errors"][0]["reason"]), (429, "rateLimitExceeded"))
        expect(exceptions.TooManyRequests, blob.compose, [blob], retry=None)
        # The SDK waits, and a rejected write is not one.
        blob.upload_from_string(b"4", if_generation_match=blob.generation)
        assert time.monotonic() - started < 30
        equal(blob.download_as_bytes(), b"4")
        # A change of metadata has a limit of its own, and deleting has none.
        blob.metadata = {"a": "b"}
        blob.patch(retry=None)
        expect(exceptions.TooManyRequests, blob.patch, retry=None)
        blob.delete(retry=None)

    def test_errors(self):
        answer = requests.get(self.endpoint + "/storage/v1/b/sdk/o/whole")
        equal((answer.status_code, answer.json()["error"]["errors"][0]["reason"]), (401, "required"))
        answer = requests.get(self.endpoint + "/storage/v1/b/sdk/o/whole", headers={"Authorization": "Bearer x"})
        equal((answer.status_code, answer.json()["error"]["message"]), (401, "Invalid Credentials"))
        answer = self.raw("GET", "/storage/v1/b/sdk/o/absent")
        equal((answer.status_code, answer.json()["error"]["code"]), (404, 404))
        equal(self.raw("GET", "/storage/v1/b/sdk/o/whole?surprise=1").status_code, 501)
        equal(self.raw("POST", "/upload/storage/v1/b/sdk/o?uploadType=media", data=b"x").status_code, 400)
        equal(self.raw("POST", "/upload/storage/v1/b/missing/o?uploadType=media&name=a", data=b"x").status_code, 404)
        for name in ["a" * 1025, "a%0Ab", "."]:
            equal(self.raw("POST", f"/upload/storage/v1/b/sdk/o?uploadType=media&name={name}", data=b"x").status_code, 400)

    def test_signed_urls(self):
        key = self.client._credentials
        blob = self.blob("signed/a b")

        def url(**arguments):
            return blob.generate_signed_url(
                version="v4", credentials=key, api_access_endpoint=self.endpoint, **{"expiration": 600, **arguments})

        headers = {"content-type": "text/x-signed", "x-goog-meta-a": "b", "x-goog-if-generation-match": "0"}
        signed = url(method="PUT", headers=headers)
        answer = requests.put(signed, data=b"signed content", headers=headers)
        equal((answer.status_code, answer.content), (200, b""))
        blob.reload()
        equal((blob.content_type, blob.metadata), ("text/x-signed", {"a": "b"}))
        answer = requests.put(signed, data=b"again", headers=headers)
        equal(answer.status_code, 412)
        assert "<Code>PreconditionFailed</Code>" in answer.text, answer.text
        equal(requests.put(signed, data=b"x").status_code, 400)
        equal(requests.put(signed, data=b"x", headers={**headers, "x-goog-meta-c": "d"}).status_code, 400)
        equal(requests.get(url(method="GET")).content, b"signed content")
        answer = requests.get(url(method="GET", response_disposition="attachment"), headers={"Range": "bytes=0-5"})
        equal((answer.status_code, answer.content, answer.headers["Content-Disposition"]), (206, b"signed", "attachment"))
        equal(requests.get(url().replace("goog4_request", "aws4_request")).status_code, 400)
        for broken in ["X-Goog-Expires", "X-Goog-Date", "X-Goog-Credential", "X-Goog-SignedHeaders", "X-Goog-Algorithm"]:
            equal(requests.get(url().replace(broken, "X-Goog-Other")).status_code, 400)
        equal(requests.get(url().replace("X-Goog-Expires=600", "X-Goog-Expires=604801")).status_code, 400)
        answer = requests.get(url().replace("X-Goog-Expires=600", "X-Goog-Expires=601"))
        equal(answer.status_code, 403)
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text, answer.text
        short = url(expiration=1)
        time.sleep(2.1)
        assert "<Code>ExpiredToken</Code>" in requests.get(short).text

        blob = self.blob("signed/resumable")
        headers = {"x-goog-resumable": "start", "content-type": "text/x-signed"}
        answer = requests.post(url(method="POST", headers=headers), headers=headers)
        equal(answer.status_code, 201)
        answer = requests.put(answer.headers["Location"], data=b"all of it")
        equal(answer.status_code, 200)
        equal(blob.download_as_bytes(), b"all of it")

    def test_credentials(self):
        folder = os.path.dirname(self.key_file)
        subject = os.path.join(folder, "subject")
        with open(subject, "w") as file:
            file.write("a token of the identity provider")
        user = {"client_id": "id", "client_secret": "secret", "refresh_token": "refresh"}
        workload = {
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "credential_source": {"file": subject},
            "token_url": self.endpoint + "/v1/token",
        }
        account = self.endpoint + "/v1/projects/-/serviceAccounts/landfall@test-project.iam.gserviceaccount.com"
        impersonating = {**workload, "service_account_impersonation_url": account + ":generateAccessToken"}
        found = [
            google.oauth2.credentials.Credentials(None, token_uri=self.endpoint + "/token", scopes=SCOPES, **user),
            identity_pool.Credentials.from_info(workload, scopes=SCOPES),
            identity_pool.Credentials.from_info(impersonating, scopes=SCOPES),
            compute_engine.Credentials(),
        ]
        for one in found:
            one.refresh(Request())
            equal(one.token, self.client._credentials.token)
        client = storage.Client("test-project", credentials=found[0], client_options={"api_endpoint": self.endpoint})
        equal(client.get_bucket("sdk").name, "sdk")

        # An assertion of another key.
        with open(self.key_file) as file:
            info = json.load(file)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        info["private_key"] = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        wrong = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
        expect(RefreshError, wrong.refresh, Request())


class Outsider(Strict):
    """The part that an emulator passes, too."""

    def __init__(self, endpoint, bucket):
        self.endpoint = endpoint
        self.client = storage.Client(
            "test-project", credentials=credentials.AnonymousCredentials(), client_options={"api_endpoint": endpoint})
        self.bucket = self.client.bucket(bucket)

    def test_all(self):
        contents = [random(4 * GRANULE), b"", random(1000)]
        blob = self.bucket.blob("resumable", chunk_size=GRANULE)
        blob.upload_from_file(io.BytesIO(contents[0]), size=len(contents[0]))
        sources = [blob, self.stored("empty", contents[1]), self.stored("part_1", contents[2])]
        equal(blob.download_as_bytes(start=10, end=19), contents[0][10:20])
        whole = self.blob("whole")
        whole.content_type = "text/x-whole"
        whole.compose(sources)
        equal(whole.download_as_bytes(), b"".join(contents))
        whole.reload()
        equal((whole.crc32c, whole.content_type), (crc32c(b"".join(contents)), "text/x-whole"))
        names = [blob.name for blob in self.client.list_blobs(self.bucket, prefix="p")]
        equal(names, ["part_1"])
        copy = self.blob("copy")
        copy.rewrite(whole)
        equal(copy.download_as_bytes(), b"".join(contents))
        with self.client.batch():
            for source in sources:
                source.delete()
        equal([blob.name for blob in self.client.list_blobs(self.bucket)], ["copy", "whole"])
        # If this fails, the emulator has learned preconditions, and the table of its differences is out of date.
        self.blob("whole").upload_from_string(b"", if_generation_match=0)


def main():
    kind, endpoint, argument = sys.argv[1:]
    suite = {"strict": Strict, "outsider": Outsider}[kind]
    tests = [name for name in vars(suite) if name.startswith("test_")]
    suite = suite(endpoint, argument)
    for name in tests:
        started = time.monotonic()
        getattr(suite, name)()
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    print(f"{len(tests)} parts passed")


main()
