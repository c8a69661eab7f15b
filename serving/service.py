"""The BentoML service. `bentoml serve` runs it from the project or from its Bento alone.

In a Bento, this file is part of the package. In the project, the package is SHOPLENS_PACKAGE if set, else the release
in service, else outs/package.
"""

import asyncio
import logging
import os
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml import Context
from bentoml.exceptions import InvalidArgument
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import schemas
from shoplens.errors import ExplainerBusyError, ModelError, ReleaseError
from shoplens.settings import Settings, load_settings

if TYPE_CHECKING:
    from serving.explanations.process import ExplainProcess
    from serving.predictor import Predictions

_TIMEOUT_SECONDS = 10
_EXPLAIN_SECONDS = 8.0  # below _TIMEOUT_SECONDS, so that the 503 still arrives
_AROUND = Path(__file__).resolve().parents[1]

version_page = FastAPI(title="ShopLens")
_log = logging.getLogger(__name__)


def find_package() -> tuple[Path, Settings]:
    """Return the package to serve and the settings for reading the online store.

    Raises:
        ReleaseError: there is no package.
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
    raise ReleaseError(f"no package in {' or '.join(map(str, choices))}. Run `dvc repro`, or set SHOPLENS_PACKAGE")


class _WithoutInput(logging.Filter):
    """Replaces the traceback of an invalid request, which quotes it, with the invalid fields and rules."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ValidationError):
            broken = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['type']}" for e in error.errors()]
            record.msg, record.args = "request rejected: %s", (", ".join(broken),)
            record.exc_info = record.exc_text = None
        elif isinstance(error, InvalidArgument):
            record.msg, record.args = "request rejected: %s", ("item_id: not in the catalogue, or no such model",)
            record.exc_info = record.exc_text = None
        return True


def hide_input() -> None:
    """Keep the content of invalid requests out of BentoML's log; calling it twice is harmless."""
    logger = logging.getLogger("bentoml._internal.server.http_app")
    if not any(isinstance(one, _WithoutInput) for one in logger.filters):
        logger.addFilter(_WithoutInput())


class VersionHeader:
    """Adds the model version to every response, including /readyz."""

    version = b""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header to the start of the response."""

        async def with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (schemas.VERSION_HEADER.encode(), VersionHeader.version)]
                message["headers"] = headers
            await send(message)

        await self.app(scope, receive, with_version)


def _with_version_header(service: Any) -> Any:
    """Wrap the whole application, including /readyz; BentoML offers only a method for this, no argument."""
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
    """Predicts who will buy and which items come next, describes users, and explains answers."""

    predictions: "Predictions"
    explanations: "ExplainProcess"

    def __init__(self) -> None:
        from serving.explanations.process import ExplainProcess
        from serving.predictor import Predictions

        hide_input()
        package, settings = find_package()
        self.predictions = Predictions(package, settings)
        self.predictions.warm()
        VersionHeader.version = self.predictions.version.encode()
        version_page.state.predictions = self.predictions
        self.explanations = ExplainProcess(package, settings)

    @bentoml.api(route="/predict_purchase")
    def predict_purchase(self, user_id: schemas.UserId) -> schemas.PurchaseAnswer:
        """Return whether this user will buy within the horizon; an unknown user gets the base rate."""
        return self.predictions.predict_purchase(user_id)

    @bentoml.api(route="/recommend")
    def recommend(self, user_id: schemas.UserId, k: schemas.Count = 10) -> schemas.RecommendAnswer:
        """Return the items that this user is most likely to take next; an unknown user gets popular items."""
        return self.predictions.recommend(user_id, k)

    @bentoml.api(route="/profile")
    def profile(self, user_id: schemas.UserId) -> schemas.ProfileAnswer:
        """Return what is known about this user, as text and as numbers."""
        return self.predictions.profile(user_id)

    @bentoml.api(route="/explain")
    async def explain(
        self, ctx: Context, user_id: schemas.UserId, item_id: schemas.ItemId = None
    ) -> schemas.ExplainAnswer:
        """Explain this user's purchase probability or, given an item, its rank for this user.

        Explanations run in a separate process that starts with the first request. Until it is ready, the answer has
        status 503 and the fallback `explainer_busy`; retry.
        """
        # BentoML has one thread for all routes that are not async: predictions would wait for explanations in it.
        try:
            answer = await asyncio.to_thread(self.explanations.ask, user_id, item_id, _EXPLAIN_SECONDS)
            return schemas.ExplainAnswer.model_validate(answer)
        except ModelError as error:
            raise InvalidArgument(str(error)) from error
        except ExplainerBusyError as error:
            _log.warning("%s", error)
            ctx.response.status_code = HTTPStatus.SERVICE_UNAVAILABLE  # if this raised, BentoML would hide the reason
            return self.predictions.not_explained(user_id)

    @bentoml.on_shutdown
    def stop_explaining(self) -> None:
        """Stop the explanation worker."""
        self.explanations.close()


@version_page.get("/version")
def version() -> schemas.VersionAnswer:
    """Return the versions in service: model version, git revision, digests of the data."""
    about: schemas.VersionAnswer = version_page.state.predictions.about()
    return about
