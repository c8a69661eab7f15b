"""The collector over HTTP: events and the calls of other trackers; each event gets its verdict."""

import asyncio
import binascii
import gzip
import hmac
import logging
import zlib
from base64 import b64decode
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.collector.batcher import Batcher
from events.collector.intake import Verdict
from events.collector.records import NOT_JSON, parse_body, parse_lines
from shoplens.errors import CollectorBusyError

_log = logging.getLogger(__name__)
_BODY_BYTES = 16 << 20  # as sent, and decompressed
_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_LATER = {"retry-after": "1"}


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    """A request from which nothing is taken."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self.answer = _json({"error": message}, status, headers)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, "application/json")


def _too_large() -> _Refused:
    return _Refused(413, f"body: must have at most {_BODY_BYTES:,} bytes; send it in parts")


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    content: dict[str, Any] = {"event_id": verdict.event_id, "status": verdict.status}
    return content | ({"reasons": verdict.reasons, "problem": verdict.problem} if verdict.reasons else {})


def _answer(verdicts: list[Verdict]) -> Response:
    counts = {"accepted": 0, "duplicate": 0, "quarantined": 0}
    for verdict in verdicts:
        counts[verdict.status] += 1
    broken = len(verdicts) == 1 and verdicts[0].reasons == (NOT_JSON,)
    return _json({**counts, "events": [_verdict_json(verdict) for verdict in verdicts]}, 400 if broken else 200)


def _credential(header: str) -> bytes:
    """Return the token of an `Authorization` header: a Bearer token, or the user name of Basic, as Segment sends it."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            return b64decode(value, validate=True).partition(b":")[0]
        except binascii.Error:
            return b""
    return value.encode() if scheme.lower() == "bearer" else b""


def _decompressed(body: bytes) -> bytes:
    try:
        content = gzip.GzipFile(fileobj=BytesIO(body)).read(_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _Refused(400, f"body: must be gzip, as content-encoding says; {error}") from None
    if len(content) > _BODY_BYTES:
        raise _too_large()
    return content


class Collector:
    """The endpoints, over a batcher."""

    def __init__(
        self,
        batcher: Batcher,
        status: Callable[[], dict[str, Any]],
        full: Callable[[], str],
        token: str | None = None,
        origins: Sequence[str] = (),
        parse_call: Callable[[str, bytes], list[Any]] | None = None,
    ) -> None:
        """Give what is posted to the batcher.

        Args:
            batcher: Takes events.
            status: Returns what /status answers.
            full: Returns why no more events can be taken; empty when they can.
            token: What senders must show, if anything.
            origins: Web origins whose pages may post, such as https://shop.example; `*` is any.
            parse_call: Returns the records of a call and a body that were posted to /v1; None: there is no /v1.
        """
        self._batcher, self._status, self._full = batcher, status, full
        self._token, self._origins, self._parse_call = token, origins, parse_call

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/events", self.events, methods=["POST"]),
            Route("/status", self.status),
            Route("/readyz", self.ready),
            Route("/livez", self.live),
        ]
        if self._parse_call is not None:
            routes.append(Route("/v1/{call}", self.calls, methods=["POST"]))
        cors = Middleware(CORSMiddleware, allow_origins=self._origins, allow_methods=["POST"], allow_headers=["*"])
        return Starlette(routes=routes, middleware=[cors] if self._origins else [])

    def _require_admitted(self, request: Request) -> None:
        if self._token is not None:
            sent = _credential(request.headers.get("authorization", ""))
            if not hmac.compare_digest(sent, self._token.encode()):
                rule = "authorization: must be `Bearer TOKEN` or `Basic`, with the collector's token as the user name"
                raise _Refused(401, rule, {"www-authenticate": "Bearer"})
        if self._full():
            raise _Refused(503, f"{self._full()}; nothing was taken, send it again later", _LATER)

    async def _body(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise _Refused(415, f"content-encoding: must be gzip or none; received {encoding!r}")
        if int(request.headers.get("content-length") or 0) > _BODY_BYTES:
            raise _too_large()
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _BODY_BYTES:
                raise _too_large()
        content = await asyncio.to_thread(_decompressed, bytes(body)) if encoding == "gzip" else bytes(body)
        if not content.strip():
            raise _Refused(400, "body: must hold an event, a list of events or NDJSON; received nothing")
        return content

    async def _take(self, request: Request, read: Callable[[bytes], list[Any]]) -> Response:
        """Take what `read` makes of the body; answer when it is on disk."""
        try:
            self._require_admitted(request)
            body = await self._body(request)
            return _answer(await asyncio.wrap_future(self._batcher.submit(partial(read, body), len(body))))
        except _Refused as refused:
            return refused.answer
        except CollectorBusyError as error:
            return _Refused(503, str(error), _LATER).answer
        except OSError as error:
            message = f"log: cannot be written ({error.strerror or error}); nothing was taken, send it again later"
            return _Refused(503, message, _LATER).answer
        except Exception as error:  # noqa: BLE001 - a fault of ours, in this request alone
            _log.error("%s: cannot be read: %r", request.url.path, error, exc_info=True)
            return _Refused(500, f"body: cannot be read ({type(error).__name__}); nothing was taken").answer

    async def events(self, request: Request) -> Response:
        """Take events of the contract."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        return await self._take(request, parse_lines if kind in _LINES else parse_body)

    async def calls(self, request: Request) -> Response:
        """Take a call of another tracker, /v1/track for example, or a /v1/batch of them."""
        assert self._parse_call is not None  # noqa: S101 - else there is no such route
        return await self._take(request, partial(self._parse_call, request.path_params["call"]))

    async def status(self, request: Request) -> Response:
        """Return how far the log and its followers are."""
        return _json(self._status())

    async def ready(self, request: Request) -> Response:
        """Return whether events are taken and reach all followers."""
        problems = {name: one["problem"] for name, one in self._status()["followers"].items() if one["problem"]}
        if self._batcher.problem:
            problems["intake"] = self._batcher.problem
        return _json({"ready": not problems, "problems": problems}, 503 if problems else 200)

    async def live(self, request: Request) -> Response:
        """Answer that the process runs."""
        return _json({"live": True})
