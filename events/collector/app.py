"""HTTP endpoints of the collector, for events and for other trackers' calls; every event gets a verdict."""

import asyncio
import gzip
import hmac
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any, get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from events.collector.intake import Batcher, Status, Verdict
from events.collector.records import NOT_JSON, parse_body
from shoplens.errors import CollectorBusyError

_BODY_BYTES = 16 << 20  # as sent, and decompressed


async def _error(_: Request, error: Exception) -> Response:
    """Map an error to a response: a bad request, a request to retry, or a server error, which uvicorn logs."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, OSError):
        error = CollectorBusyError(
            f"log: cannot be written ({error.strerror or error}); nothing was accepted, send it again later"
        )
    if isinstance(error, CollectorBusyError):
        return JSONResponse({"error": str(error)}, 503, {"retry-after": "1"})
    return JSONResponse({"error": f"body: cannot be read ({type(error).__name__}); nothing was accepted"}, 500)


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
    return JSONResponse({**{name: counts[name] for name in get_args(Status)}, "events": events}, 400 if broken else 200)


def _require_token(header: str, token: str) -> None:
    """Require the token in an `Authorization` header: as Bearer, or as the user name of Basic, as Segment sends it."""
    scheme, _, value = header.partition(" ")
    sent = value.encode() if scheme.lower() == "bearer" else b""
    if scheme.lower() == "basic":
        try:
            sent = b64decode(value, validate=True).partition(b":")[0]
        except ValueError:  # not Base64, or not even ASCII
            sent = b""
    if not hmac.compare_digest(sent, token.encode()):
        rule = "authorization: must be `Bearer TOKEN` or `Basic`, with the collector's token as the user name"
        raise HTTPException(401, rule, {"www-authenticate": "Bearer"})


def _decompressed(body: bytes) -> bytes:
    try:
        return gzip.GzipFile(fileobj=BytesIO(body)).read(_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise HTTPException(400, f"body: must be gzip, as content-encoding states; {error}") from None


async def _body(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, f"content-encoding: must be gzip or none; received {encoding!r}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        _require_small(len(body))
    content = await asyncio.to_thread(_decompressed, bytes(body)) if encoding == "gzip" else bytes(body)
    _require_small(len(content))
    if not content.strip():
        raise HTTPException(400, "body: must hold an event, a list of events or NDJSON; received nothing")
    return content


def collector_app(
    batcher: Batcher,
    report: Callable[[], dict[str, Any]],
    full: Callable[[], str],
    token: str | None = None,
    origins: Sequence[str] = (),
    parse_call: Callable[[str, bytes], list[Any]] | None = None,
) -> Starlette:
    """Return the ASGI application.

    Args:
        batcher: Receives the events.
        report: Returns the content of /status.
        full: Returns why the collector accepts no more events; empty if it does.
        token: Token that senders must present, if any.
        origins: Web origins whose pages may post, such as https://shop.example; `*` allows any.
        parse_call: Returns the records of a call and body posted to /v1; None disables /v1.
    """

    async def take(request: Request, read: Callable[[bytes], list[Any]]) -> Response:
        """Submit the events that `read` parses from the body; respond once they are on disk."""
        if token is not None:
            _require_token(request.headers.get("authorization", ""), token)
        if reason := full():
            raise CollectorBusyError(f"{reason}; nothing was accepted, send it again later")
        body = await _body(request)
        return _answer(await asyncio.wrap_future(batcher.submit(partial(read, body), len(body))))

    async def events(request: Request) -> Response:
        """Accept events in the contract's format."""
        return await take(request, parse_body)

    async def call(parse: Callable[[str, bytes], list[Any]], request: Request) -> Response:
        """Accept another tracker's call, such as /v1/track, or a /v1/batch of calls."""
        return await take(request, partial(parse, request.path_params["call"]))

    async def ready(_: Request) -> Response:
        """Return whether events are accepted, also from Kafka, and reach all followers."""
        status = report()
        parts = status["followers"] | ({"kafka": status["kafka"]} if "kafka" in status else {})
        problems = {name: one["problem"] for name, one in parts.items() if one["problem"]}
        problems |= {"intake": batcher.problem} if batcher.problem else {}
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    routes = [
        Route("/events", events, methods=["POST"]),
        Route("/status", lambda _: JSONResponse(report())),
        Route("/readyz", ready),
        Route("/livez", lambda _: JSONResponse({"live": True})),
    ]
    if parse_call is not None:
        routes.append(Route("/v1/{call}", partial(call, parse_call), methods=["POST"]))
    cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"], allow_headers=["*"])
    handlers = dict.fromkeys((HTTPException, CollectorBusyError, OSError, Exception), _error)
    return Starlette(routes=routes, middleware=[cors] if origins else [], exception_handlers=handlers)
