"""What the tests of ingest and of the lake share: a small shop, written as real files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from events.mapping import Mapping, load_mapping

HEAD = "name: shop\nidentity: user\ntime_zone: UTC\n"


@pytest.fixture
def mapping_of(tmp_path: Path) -> Callable[[str], Mapping]:
    """Return a function that writes the tables of a mapping after a common head and loads it."""

    def load(tables: str) -> Mapping:
        path = tmp_path / "shop.yaml"
        path.write_text(HEAD + tables)
        return load_mapping(path)

    return load


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes lines to a file below the test's folder."""

    def to(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return to


@contextmanager
def serving_s3(around: Callable[[Any], Any] = lambda application: application) -> Iterator[str]:
    """Serve S3 over HTTP on this machine; yield its address. `around` wraps the WSGI application."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: object) -> None:
            pass

    # One request at a time: moto looks for a file and writes it in two steps, where S3 does both in one.
    application = around(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a real HTTP server that speaks S3, on this machine."""
    with serving_s3() as address:
        yield address


@pytest.fixture(scope="session")
def careless_s3_server() -> Iterator[str]:
    """The address of an S3 server that does not know If-None-Match, as older ones of other makers."""

    def without_condition(application: Any) -> Any:
        def serve(environ: dict[str, Any], start: Any) -> Any:
            environ.pop("HTTP_IF_NONE_MATCH", None)
            return application(environ, start)

        return serve

    with serving_s3(without_condition) as address:
        yield address


@pytest.fixture
def new_bucket(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that makes a bucket at a server, sets the environment that reaches it, returns its URL."""

    def make(server: str) -> str:
        import s3fs

        given = {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        for name, value in (given | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}).items():
            monkeypatch.setenv(name, value)
        name = f"shop-{uuid4().hex}"
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
        return f"s3://{name}"

    return make


@pytest.fixture
def bucket(s3_server: str, new_bucket: Callable[[str], str]) -> str:
    """A new bucket, as a URL; the environment says how to reach it."""
    return new_bucket(s3_server)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new lake may be made: in a folder, or on S3."""
    return str(tmp_path / "lake") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/lakes/shop"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that runs a `shoplens` command in the test's folder and returns what it printed.

    An error of ours is raised, as it is to the command line before that prints its line.
    """
    from typer.testing import CliRunner

    from shoplens.cli import build_app

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        return CliRunner().invoke(build_app(words[0]), words, catch_exceptions=False).stdout

    return run
