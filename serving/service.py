"""The BentoML service. `bentoml serve` runs it from the project and from its Bento alone.

In a Bento the package lies around this file. In the project it is SHOPLENS_PACKAGE, else the release in service, else
`outs/package`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.schemas import (
    VERSION_HEADER,
    Count,
    ProfileAnswer,
    PurchaseAnswer,
    RecommendAnswer,
    UserId,
    VersionAnswer,
)
from shoplens.errors import ReleaseError
from shoplens.settings import Settings, load_settings

if TYPE_CHECKING:
    from serving.predictor import Predictions

_TIMEOUT_SECONDS = 10
_AROUND = Path(__file__).resolve().parents[1]

version_page = FastAPI(title="ShopLens")


def find_package() -> tuple[Path, Settings]:
    """Return the package to serve, and the settings to read the store with.

    Raises:
        ReleaseError: there is none.
    """
    if (_AROUND / "manifest.json").is_file():
        return _AROUND, Settings(root=Path(os.environ.get("SHOPLENS_ROOT", _AROUND)))
    settings = load_settings()
    choices = [settings.var_dir / "service/current/src", settings.outs_dir / "package"]
    if settings.package is not None:
        choices = [settings.package]
    for choice in choices:
        if (choice / "manifest.json").is_file():
            return choice, settings
    raise ReleaseError(f"no package in {' or '.join(map(str, choices))}; run `dvc repro`, or set SHOPLENS_PACKAGE")


class VersionHeader:
    """Puts the model version on every answer, /readyz included."""

    version = b""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header to the start of the answer."""

        async def with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (VERSION_HEADER.encode(), VersionHeader.version)]
            await send(message)

        await self.app(scope, receive, with_version)


def _with_version_header(service: Any) -> Any:
    """Wrap the service's application, /readyz included; BentoML has no argument for that, only a method."""
    service.add_asgi_middleware(VersionHeader)
    return service


@_with_version_header
@bentoml.service(
    name="shoplens",
    workers=1,
    traffic={"timeout": _TIMEOUT_SECONDS},
    http={"host": "127.0.0.1"},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(version_page)
class ShopLens:
    """Who will buy, what they take next, and what is known of them."""

    predictions: "Predictions"

    def __init__(self) -> None:
        from serving.predictor import Predictions
        from serving.privacy import hide_input

        hide_input()
        package, settings = find_package()
        self.predictions = Predictions(package, settings)
        self.predictions.warm()
        VersionHeader.version = self.predictions.version.encode()
        version_page.state.predictions = self.predictions

    @bentoml.api(route="/predict_purchase")
    def predict_purchase(self, user_id: UserId) -> PurchaseAnswer:
        """Will this user buy within the horizon? An unknown user gets the base rate."""
        return self.predictions.predict_purchase(user_id)

    @bentoml.api(route="/recommend")
    def recommend(self, user_id: UserId, k: Count = 10) -> RecommendAnswer:
        """What does this user take next? An unknown user gets popular items."""
        return self.predictions.recommend(user_id, k)

    @bentoml.api(route="/profile")
    def profile(self, user_id: UserId) -> ProfileAnswer:
        """What is known of this user, in words and in numbers?"""
        return self.predictions.profile(user_id)


@version_page.get("/version")
def version() -> VersionAnswer:
    """What is in service: model version, git revision, digests of the data."""
    about: VersionAnswer = version_page.state.predictions.about()
    return about
