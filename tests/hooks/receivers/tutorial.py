"""The endpoint of the tutorials that put FastAPI behind tusd, as their readers run it.

It reads the event from the Hook-Name header, which tusd 1 sends and tusd 2 does not; takes the bearer
token from HTTPRequest.Header.Authorization[0] in every hook and event, rejects with its own status, and
removes the .info file of a finished upload. It writes the messages to $SEEN, one JSON object per line.
"""

import json
import os
from pathlib import Path
from typing import Any

from fastapi import Body, FastAPI, Header, HTTPException

UPLOADS = Path(os.environ["UPLOADS"])
SEEN = Path(os.environ["SEEN"])

app = FastAPI()


@app.post("/tus-hook")
async def tus_hook(hook_name: str = Header(...), tusd_in: Any = Body(...)):
    """Returns nothing, which FastAPI sends as `null`."""
    request, upload = tusd_in.get("HTTPRequest"), tusd_in.get("Upload")
    scheme, _, token = request.get("Header").get("Authorization")[0].partition(" ")
    if scheme != "Bearer" or token != "good-token":
        raise HTTPException(401, "Your session is over: please sign in again.")

    name = upload.get("ID")
    seen = {"hook": hook_name, "id": name, "meta": upload.get("MetaData"), "size": upload.get("Size")}
    if hook_name == "post-finish":
        data = UPLOADS / name
        assert data.stat().st_size == upload.get("Size")
        Path(f"{data}.info").unlink(missing_ok=True)
    with SEEN.open("a") as file:
        file.write(json.dumps(seen) + "\n")
