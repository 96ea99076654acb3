"""A login that gives the browser a token in a cookie, and a page with live documents of the user alone.

The application has its own session, which lasts. The token for Babbling Brook is another cookie: it lasts for
a minute, and is renewed for as long as the session does. No script of the page can read either (HttpOnly).
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from flask import Flask, Response, jsonify, request, send_file, session
from pymongo import MongoClient

HERE = Path(__file__).parent
KEY = (HERE / "jwt.key").read_text().strip()
SECONDS = int(os.environ.get("TOKEN_SECONDS", "60"))

# In place of your own table of users and your way to check a password.
USERS = {"ada": "crawdad", "bob": "heron"}

app = Flask(__name__)
# After a restart, everybody logs in again.
app.secret_key = secrets.token_bytes()
app.config |= {"SESSION_COOKIE_HTTPONLY": True, "SESSION_COOKIE_SAMESITE": "Lax"}
client: MongoClient[Any] = MongoClient(os.environ.get("MONGO", "mongodb://localhost:27017/?replicaSet=rs0"))
notes = client.login_example.notes


@app.get("/")
def page() -> Response:
    """The page."""
    return send_file(HERE / "page.html")


@app.post("/login")
def log_in() -> Response:
    """Begin a session."""
    name, password = (str(request.get_json().get(key, "")) for key in ("name", "password"))
    if not hmac.compare_digest(USERS.get(name, secrets.token_hex()).encode(), password.encode()):
        return Response("There is no such user with this password.", 401)
    session["user"] = name
    return with_token(name)


@app.post("/token")
def renew() -> Response:
    """Renew the token. The page asks for it before each connection."""
    user = session.get("user")
    return with_token(user) if user else Response("Log in first.", 401)


@app.post("/logout")
def log_out() -> Response:
    """End the session. A connection that is open ends with its token, in a minute at most."""
    session.clear()
    answer = Response(status=204)
    answer.delete_cookie("brook")
    return answer


@app.post("/notes")
def write() -> Response:
    """Write a note of the user's. The page does not write to Babbling Brook, which cannot be written to."""
    user = session.get("user")
    if not user:
        return Response("Log in first.", 401)
    notes.insert_one({"owner": user, "text": str(request.get_json().get("text", ""))[:200]})
    return Response(status=204)


def with_token(user: str) -> Response:
    """An answer that says who the user is, and brings the token as a cookie."""
    claims = {"sub": user, "aud": "brook", "exp": int(time.time()) + SECONDS}
    answer = jsonify(user=user)
    # Behind TLS, add secure=True.
    answer.set_cookie(
        "brook", jwt.encode(claims, KEY, "HS256"), max_age=SECONDS, httponly=True, samesite="Lax"
    )
    return answer
