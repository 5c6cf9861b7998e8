"""Denies one hook of a request in a way that does not arrive whole. Its header X-How names the way, X-When the hook."""

import gzip
import json

from fastapi import Body, FastAPI, Request
from fastapi.responses import Response, StreamingResponse

DENIAL = json.dumps({"RejectUpload": True, "RejectTermination": True, "RejectAccess": True}).encode()
WARNING = b"<br />\n<b>Warning</b>: Undefined array key \"user\" in <b>hook.php</b> on line <b>7</b><br />\n"
JSON = "application/json"

WHOLE = {
    "cut": (DENIAL[:-5], JSON),
    "cut without a type": (DENIAL[:-5], "text/html"),
    "array": (b"[" + DENIAL + b"]", JSON),
    "not a number": (b"NaN", JSON),
    "wide": (DENIAL.decode().encode("utf-16"), JSON),
    "after a warning": (WARNING + DENIAL, "text/html; charset=UTF-8"),
    "warning alone": (WARNING, "text/html; charset=UTF-8"),
    "marked": (b"\xef\xbb\xbf" + DENIAL, JSON),
}

app = FastAPI()


@app.post("/hooks")
async def hooks(request: Request, message: dict = Body()):
    """Without these headers, everything is allowed."""
    if "accept-encoding" in request.headers:
        raise RuntimeError("a compressed response was requested")
    headers = message["Event"]["HTTPRequest"]["Header"]
    how, when = (headers.get(name, [""])[0] for name in ("X-How", "X-When"))
    if message["Type"] != when:
        return None
    if how == "compressed":
        return Response(gzip.compress(DENIAL), media_type=JSON, headers={"Content-Encoding": "gzip"})
    if how == "dying":

        async def start():
            yield DENIAL[:7]
            raise RuntimeError("out of memory")

        return StreamingResponse(start(), media_type=JSON)
    body, kind = WHOLE[how]
    return Response(body, headers={"Content-Type": kind})
