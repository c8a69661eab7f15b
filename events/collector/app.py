"""`POST /events` over HTTP: one JSON event, a list of them, or NDJSON; every event gets its verdict."""

import asyncio
import hmac
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.collector.batcher import Batcher
from events.collector.incoming import NOT_JSON, Incoming, read_json_body, read_lines
from events.collector.intake import Verdict
from shoplens.errors import CollectorBusyError

# path -> method, and the method of `Collector` that answers
ROUTES = {
    "/events": ("POST", "events"),
    "/status": ("GET", "status"),
    "/readyz": ("GET", "ready"),
    "/livez": ("GET", "live"),
}
_BODY_BYTES = 16 << 20
_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_LATER = {"retry-after": "1"}


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, "application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": message}, status, headers)


def _told(verdict: Verdict) -> dict[str, Any]:
    told: dict[str, Any] = {"event_id": verdict.event_id, "status": verdict.status}
    if verdict.reasons:
        told |= {"reasons": verdict.reasons, "problem": verdict.problem}
    return told


def _answer(verdicts: list[Verdict]) -> Response:
    counts = {"accepted": 0, "duplicate": 0, "quarantined": 0}
    for verdict in verdicts:
        counts[verdict.status] += 1
    broken = len(verdicts) == 1 and verdicts[0].reasons == (NOT_JSON,)
    return _json({**counts, "events": [_told(verdict) for verdict in verdicts]}, 400 if broken else 200)


class Collector:
    """The endpoints, over a batcher."""

    def __init__(
        self, batcher: Batcher, status: Callable[[], dict[str, Any]], full: Callable[[], str], token: str | None
    ) -> None:
        """Give what comes to the batcher.

        Args:
            batcher: Takes events.
            status: What /status answers.
            full: Says why no more events can be taken; empty when they can.
            token: What senders must show, if anything.
        """
        self._batcher, self._status, self._full, self._token = batcher, status, full, token

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[Route(path, getattr(self, name), methods=[how]) for path, (how, name) in ROUTES.items()]
        )

    def _refused(self, request: Request) -> Response | None:
        if self._token is not None:
            sent = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(sent.encode(), self._token.encode()):
                return _error(
                    401, "authorization: must be `Bearer` and the collector's token", {"www-authenticate": "Bearer"}
                )
        if int(request.headers.get("content-length") or 0) > _BODY_BYTES:
            return _too_large()
        if self._full():
            return _error(503, f"{self._full()}; nothing was taken, send it again later", _LATER)
        return None

    async def events(self, request: Request) -> Response:
        """Take events; answer when they are on disk."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _BODY_BYTES:
                return _too_large()
        if not body.strip():
            return _error(400, "body: must hold an event, a list of events or NDJSON; received nothing")
        try:
            read = partial(_reader(request.headers.get("content-type", "")), bytes(body))
            answer = self._batcher.submit(read, len(body))
            return _answer(await asyncio.wrap_future(answer))
        except CollectorBusyError as error:
            return _error(503, str(error), _LATER)
        except OSError as error:
            message = f"log: cannot be written ({error.strerror}); nothing was taken, send it again later"
            return _error(503, message, _LATER)

    async def status(self, request: Request) -> Response:
        """Say how far the log and its followers are."""
        return _json(self._status())

    async def ready(self, request: Request) -> Response:
        """Say whether events reach all followers."""
        problems = {name: one["problem"] for name, one in self._status()["followers"].items() if one["problem"]}
        return _json({"ready": not problems, "problems": problems}, 503 if problems else 200)

    async def live(self, request: Request) -> Response:
        """Say that somebody is here."""
        return _json({"live": True})


def _too_large() -> Response:
    return _error(413, f"body: must have at most {_BODY_BYTES:,} bytes; send it in parts")


def _reader(content_type: str) -> Callable[[bytes], list[Incoming]]:
    return read_lines if content_type.split(";")[0].strip().lower() in _LINES else read_json_body
