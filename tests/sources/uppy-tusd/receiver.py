"""The hooks of an upload service: tusd stores the bytes, this decides who may send them and files them away.

    tusd -behind-proxy -hooks-http http://localhost:8000/hooks/tusd \\
        -hooks-http-forward-headers authorization -hooks-enabled-events pre-create,post-finish

The settings are the folder ARCHIVE, and PROJECTS, which names who may upload to which project.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from fastapi import Body, FastAPI, Header, HTTPException

ARCHIVE = Path(os.environ["ARCHIVE"])
# The users of each project, by its name.
PROJECTS: dict[str, list[str]] = json.loads(os.environ["PROJECTS"])
TOKENS = {"token-of-ann": "ann", "token-of-bob": "bob"}

app = FastAPI()


def signed_in(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or token not in TOKENS:
        raise HTTPException(401, "Your session has ended, please sign in again.")
    return TOKENS[token]


def may_upload(user: str, metadata: dict[str, str]) -> Path:
    if not metadata.get("filetype", "").startswith("image/"):
        raise HTTPException(400, "Only images can be sent.")
    project = metadata.get("project", "")
    if project not in PROJECTS:
        raise HTTPException(404, f"There is no project {project}.")
    if user not in PROJECTS[project]:
        raise HTTPException(403, f"{user} is not a member of {project}.")
    return ARCHIVE / project / user / Path(metadata["filename"]).name


@app.post("/hooks/tusd")
def from_tusd(hook_name: str = Header(...), event: Any = Body(...)) -> dict:
    upload = event["Upload"]
    user = signed_in(event["HTTPRequest"]["Header"]["Authorization"][0])
    target = may_upload(user, upload["MetaData"])
    print("hook", hook_name, upload["ID"], user, file=sys.stderr, flush=True)
    if hook_name == "post-finish":
        source = Path(upload["Storage"]["Path"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        Path(f"{source}.info").unlink()
    return {}
