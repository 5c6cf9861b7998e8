"""Lets people upload who carry a valid JSON Web Token, and notes who they are.

    pip install fastapi uvicorn PyJWT
    JWT_SECRET=... uvicorn check_jwt:app --port 9000
    landfall -hooks-http http://127.0.0.1:9000/hooks -hooks-http-forward-headers Authorization \
             -hooks-enabled-events pre-create,post-finish

JWT_SECRET is the HS256 secret; for tokens of an identity provider give its public key and
algorithm to jwt.decode instead (jwt.PyJWKClient fetches keys by URL).
"""

import logging
import os

import jwt
from fastapi import FastAPI, Request

SECRET = os.environ["JWT_SECRET"]

app = FastAPI()
log = logging.getLogger("uvicorn.error")


def refuse(why):
    """The client gets 401 and the reason as JSON."""
    return {
        "RejectUpload": True,
        "HTTPResponse": {
            "StatusCode": 401,
            "Body": f'{{"message": "{why}"}}',
            "Header": {"Content-Type": "application/json", "WWW-Authenticate": "Bearer"},
        },
    }


@app.post("/hooks")
async def hooks(request: Request):
    message = await request.json()
    event = message["Event"]
    if message["Type"] == "pre-create":
        given = event["HTTPRequest"]["Header"].get("Authorization", [""])[0]
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return refuse("please sign in")
        try:
            # Without "require", a token that never ends would do.
            claims = jwt.decode(token, SECRET, algorithms=["HS256"],
                                options={"require": ["exp", "sub"]})
        except jwt.ExpiredSignatureError:
            return refuse("your session is over, please sign in again")
        except jwt.InvalidTokenError:
            return refuse("this token is not valid")
        # Labels come back in every later event of the upload; clients never see them.
        return {"ChangeFileInfo": {"Labels": {"user": claims["sub"]}}}
    if message["Type"] == "post-finish":
        upload = event["Upload"]
        log.info("upload %s of %s is complete", upload["ID"], upload["Labels"]["user"])
    return {}
