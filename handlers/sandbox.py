"""`POST /sandbox/{name}`: a document for the throwaway MongoDB, to watch it arrive."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Protocol

from brook.admission import Admission
from brook.errors import BadRequest, Forbidden
from handlers.base import RetryableHandler
from handlers.cors import Cors
from handlers.credentials import CredentialReader


class Inserter(Protocol):
    """Inserts documents. `sources/sandbox.py` implements it."""

    async def insert(self, namespace: str, text: str) -> str:
        """Insert the document that the JSON `text` describes, and return the position of the write.

        Raises BadRequest if it is not a document, and NotReady if MongoDB takes none now.
        """


class SandboxHandler(RetryableHandler):
    """Inserts one document. Only a server that started its own MongoDB has this, and only without access
    rules.
    """

    allowed_methods = "POST"

    def initialize(  # type: ignore[override]
        self, admission: Admission, credentials: CredentialReader, inserter: Inserter
    ) -> None:
        # No page of another origin may write: it gets no CORS headers, and a form cannot send JSON.
        super().initialize(Cors(()))
        self._admission = admission
        self._credentials = credentials
        self._inserter = inserter

    async def post(self, stream: str) -> None:
        """Answer with 201 and the position of the write, for `brook.reached`."""
        if self.request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise Forbidden("only this server's own page inserts documents, and programs that are not pages")
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise BadRequest("POST /sandbox takes a document with Content-Type: application/json")
        admitted = self._admission.at_once(self._credentials.read(self.request))
        # A live query is always of one collection.
        [namespace] = admitted.streams.subscription(stream, {"mode": ["live"]}).namespaces or [""]
        try:
            text = self.request.body.decode()
        except UnicodeDecodeError:
            raise BadRequest("the document is not UTF-8") from None
        position = await self._inserter.insert(namespace, text)
        self.set_status(HTTPStatus.CREATED)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        await self.finish(json.dumps({"position": position}))
