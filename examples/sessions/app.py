"""An application with ordinary sessions, as Django, Rails or Express have them, and nothing about tokens.

Babbling Brook passes the browser's cookie on to `/brook`, and asks again before the answer expires.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request, send_file
from pymongo import MongoClient

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("CLAIMS_SECONDS", "30"))

# In place of your own tables of users and sessions.
USERS = {"ada": "crawdad", "bob": "heron", "eve": "shrike"}
BANNED = {"eve"}
sessions: dict[str, str] = {}

app = Flask(__name__)
client: MongoClient[Any] = MongoClient(os.environ.get("MONGO", "mongodb://localhost:27017/?replicaSet=rs0"))
notes = client.sessions_example.notes


@app.get("/brook")
def claims() -> Response:
    """Answer Babbling Brook: the user of this cookie, and for how long it need not ask again."""
    user = current_user()
    if user is None:
        return Response(status=401)
    if user in BANNED:
        return Response(status=403)
    return jsonify(claims={"sub": user}, seconds=SECONDS)


@app.get("/")
def page() -> Response:
    """The page."""
    return send_file(HERE / "page.html")


@app.get("/me")
def me() -> Response:
    """The user of the session, for the page."""
    return jsonify(user=current_user())


@app.post("/login")
def log_in() -> Response:
    """Begin a session."""
    name, password = (str(request.get_json().get(key, "")) for key in ("name", "password"))
    if not hmac.compare_digest(USERS.get(name, secrets.token_hex()).encode(), password.encode()):
        return Response("There is no such user with this password.", 401)
    key = secrets.token_urlsafe()
    sessions[key] = name
    answer = jsonify(user=name)
    # Behind TLS, add secure=True.
    answer.set_cookie("sessionid", key, httponly=True, samesite="Lax")
    return answer


@app.post("/logout")
def log_out() -> Response:
    """End the session. Babbling Brook learns of it when it asks the next time."""
    sessions.pop(request.cookies.get("sessionid", ""), None)
    answer = Response(status=204)
    answer.delete_cookie("sessionid")
    return answer


@app.post("/notes")
def write() -> Response:
    """Write a note of the user's."""
    user = current_user()
    if user is None:
        return Response("Log in first.", 401)
    notes.insert_one({"owner": user, "text": str(request.get_json().get("text", ""))[:200]})
    return Response(status=204)


def current_user() -> str | None:
    """The user whose session the request's cookie names."""
    return sessions.get(request.cookies.get("sessionid", ""))
