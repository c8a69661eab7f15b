"""The collector over HTTP: events and the calls of other trackers; each event gets its verdict."""

import asyncio
import binascii
import gzip
import hmac
import logging
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, get_args

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.collector.batcher import Batcher
from events.collector.intake import Status, Verdict
from events.collector.records import NOT_JSON, parse_body, parse_lines
from shoplens.errors import CollectorBusyError

_log = logging.getLogger(__name__)
_BODY_BYTES = 16 << 20  # as sent, and decompressed
_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, "application/json")


async def _error(_: Request, error: Any) -> Response:
    return _json({"error": error.detail}, error.status_code, error.headers)


def _later(message: str) -> HTTPException:
    return HTTPException(503, message, {"retry-after": "1"})


def _require_small(size: int) -> None:
    if size > _BODY_BYTES:
        raise HTTPException(413, f"body: must have at most {_BODY_BYTES:,} bytes; send it in parts")


def _answer(verdicts: list[Verdict]) -> Response:
    counts = Counter(verdict.status for verdict in verdicts)
    broken = len(verdicts) == 1 and verdicts[0].reasons == (NOT_JSON,)
    events = [
        {"event_id": one.event_id, "status": one.status}
        | ({"reasons": one.reasons, "problem": one.problem} if one.reasons else {})
        for one in verdicts
    ]
    return _json({**{name: counts[name] for name in get_args(Status)}, "events": events}, 400 if broken else 200)


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
        raise HTTPException(400, f"body: must be gzip, as content-encoding says; {error}") from None
    _require_small(len(content))
    return content


async def _body(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, f"content-encoding: must be gzip or none; received {encoding!r}")
    _require_small(int(request.headers.get("content-length") or 0))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        _require_small(len(body))
    content = await asyncio.to_thread(_decompressed, bytes(body)) if encoding == "gzip" else bytes(body)
    if not content.strip():
        raise HTTPException(400, "body: must hold an event, a list of events or NDJSON; received nothing")
    return content


@dataclass(frozen=True)
class Collector:
    """The endpoints, over a batcher.

    Attributes:
        batcher: Takes events.
        report: Returns what /status answers.
        full: Returns why no more events can be taken; empty when they can.
        token: What senders must show, if anything.
        origins: Web origins whose pages may post, such as https://shop.example; `*` is any.
        parse_call: Returns the records of a call and a body that were posted to /v1; None: there is no /v1.
    """

    batcher: Batcher
    report: Callable[[], dict[str, Any]]
    full: Callable[[], str]
    token: str | None = None
    origins: Sequence[str] = ()
    parse_call: Callable[[str, bytes], list[Any]] | None = None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/events", self._events, methods=["POST"]),
            Route("/status", lambda _: _json(self.report())),
            Route("/readyz", self._ready),
            Route("/livez", lambda _: _json({"live": True})),
        ]
        if self.parse_call is not None:
            routes.append(Route("/v1/{call}", partial(self._call, self.parse_call), methods=["POST"]))
        cors = Middleware(CORSMiddleware, allow_origins=self.origins, allow_methods=["POST"], allow_headers=["*"])
        return Starlette(
            routes=routes, middleware=[cors] if self.origins else [], exception_handlers={HTTPException: _error}
        )

    def _require_admitted(self, request: Request) -> None:
        if self.token is not None:
            sent = _credential(request.headers.get("authorization", ""))
            if not hmac.compare_digest(sent, self.token.encode()):
                rule = "authorization: must be `Bearer TOKEN` or `Basic`, with the collector's token as the user name"
                raise HTTPException(401, rule, {"www-authenticate": "Bearer"})
        if full := self.full():
            raise _later(f"{full}; nothing was taken, send it again later")

    async def _take(self, request: Request, read: Callable[[bytes], list[Any]]) -> Response:
        """Take what `read` makes of the body; answer when it is on disk."""
        try:
            self._require_admitted(request)
            body = await _body(request)
            return _answer(await asyncio.wrap_future(self.batcher.submit(partial(read, body), len(body))))
        except HTTPException:
            raise
        except CollectorBusyError as error:
            raise _later(str(error)) from None
        except OSError as error:
            message = f"log: cannot be written ({error.strerror or error}); nothing was taken, send it again later"
            raise _later(message) from None
        except Exception as error:  # noqa: BLE001 - a fault of ours, in this request alone
            _log.exception("%s: cannot be read", request.url.path)
            raise HTTPException(500, f"body: cannot be read ({type(error).__name__}); nothing was taken") from None

    async def _events(self, request: Request) -> Response:
        """Take events of the contract."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        return await self._take(request, parse_lines if kind in _LINES else parse_body)

    async def _call(self, parse: Callable[[str, bytes], list[Any]], request: Request) -> Response:
        """Take a call of another tracker, /v1/track for example, or a /v1/batch of them."""
        return await self._take(request, partial(parse, request.path_params["call"]))

    async def _ready(self, _: Request) -> Response:
        """Return whether events are taken and reach all followers."""
        problems = {name: one["problem"] for name, one in self.report()["followers"].items() if one["problem"]}
        if self.batcher.problem:
            problems["intake"] = self.batcher.problem
        return _json({"ready": not problems, "problems": problems}, 503 if problems else 200)
