"""What an application writes by hand: an endpoint that gives leave to upload, and remembers it.

One row for each grant with the hash of its token, committed before the answer, in PostgreSQL if
DATABASE_URL is set, else in SQLite at DATABASE_FILE.
"""

import datetime
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import threading
from contextlib import asynccontextmanager

import asyncpg
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field

KEY = hashlib.sha256(os.environ["API_KEY"].encode()).digest()
URL, FILE = os.environ.get("DATABASE_URL"), os.environ.get("DATABASE_FILE")
TABLE = """CREATE TABLE IF NOT EXISTS uploads (
    id INTEGER PRIMARY KEY, subject TEXT NOT NULL, request_id TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE, expires_at TEXT NOT NULL, filename TEXT NOT NULL, filetype TEXT,
    size BIGINT, received BIGINT NOT NULL DEFAULT 0, state TEXT NOT NULL, metadata TEXT NOT NULL,
    created_at TEXT NOT NULL, UNIQUE (subject, request_id))"""
COLUMNS = "subject, request_id, token, expires_at, filename, filetype, size, state, metadata, created_at"
SHOWN = "request_id, filename, filetype, size, received, state, created_at"
HOUR = datetime.timedelta(hours=1)


class Ask(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(min_length=1, max_length=255)
    filename: str = Field(min_length=1, max_length=1024)
    filesize: int | None = Field(default=None, ge=0)
    filetype: str | None = None


def caller(authorization: str = Header("")):
    """Who asks, by an API key."""
    given = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    if not hmac.compare_digest(given, KEY):
        raise HTTPException(401)
    return "bench"


def row(subject, ask, token):
    """What is kept."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return (subject, ask.id, hashlib.sha256(token.encode()).hexdigest(), (now + HOUR).isoformat(),
            ask.filename, ask.filetype, ask.filesize, "received", json.dumps(ask.model_extra),
            now.isoformat())


def granted(ask, token, expires_at):
    """What is answered."""
    return {"request_id": ask.id, "upload_token": token, "expires_at": expires_at,
            "filename": ask.filename, "size": ask.filesize, "location": "/files/",
            "state": "received"}


def answer(found):
    """A row as it is shown."""
    if not found:
        raise HTTPException(404)
    return dict(zip(SHOWN.split(", "), found))


def with_sqlite():
    """One connection for all threads: several would only wait for each other's locks."""
    app, lock = FastAPI(), threading.Lock()
    database = sqlite3.connect(FILE, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(TABLE)
    insert = f"INSERT INTO uploads ({COLUMNS}) VALUES ({', '.join('?' * 10)})"
    one = f"SELECT {SHOWN} FROM uploads WHERE subject = ? AND request_id = ?"

    @app.post("/uploadjobs", status_code=201)
    def grant(ask: Ask, response: Response, subject: str = Depends(caller)):
        token = secrets.token_urlsafe(32)
        kept = row(subject, ask, token)
        with lock:
            try:
                with database:
                    database.execute(insert, kept)
            except sqlite3.IntegrityError as why:
                raise HTTPException(409) from why
        response.headers["Cache-Control"] = "no-store"
        return granted(ask, token, kept[3])

    @app.get("/uploadjobs/{request_id}")
    def show(request_id: str, subject: str = Depends(caller)):
        with lock:
            return answer(database.execute(one, (subject, request_id)).fetchone())

    return app


def with_postgres():
    """A pool, as its documentation has it."""
    pool = None
    insert = f"INSERT INTO uploads ({COLUMNS}) VALUES ({', '.join(f'${at + 1}' for at in range(10))})"
    one = f"SELECT {SHOWN} FROM uploads WHERE subject = $1 AND request_id = $2"

    @asynccontextmanager
    async def life(_):
        nonlocal pool
        async with asyncpg.create_pool(URL, min_size=1, max_size=10) as pool:
            # Only one worker can make the table.
            await pool.execute(f"SELECT pg_advisory_lock(1); {TABLE.replace('INTEGER', 'SERIAL')}; "
                               "SELECT pg_advisory_unlock(1)")
            yield

    app = FastAPI(lifespan=life)

    @app.post("/uploadjobs", status_code=201)
    async def grant(ask: Ask, response: Response, subject: str = Depends(caller)):
        token = secrets.token_urlsafe(32)
        kept = row(subject, ask, token)
        try:
            await pool.execute(insert, *kept)
        except asyncpg.UniqueViolationError as why:
            raise HTTPException(409) from why
        response.headers["Cache-Control"] = "no-store"
        return granted(ask, token, kept[3])

    @app.get("/uploadjobs/{request_id}")
    async def show(request_id: str, subject: str = Depends(caller)):
        return answer(await pool.fetchrow(one, subject, request_id))

    return app


app = with_postgres() if URL else with_sqlite()
