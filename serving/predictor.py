"""The logic of the service, without HTTP: package, models, online store, fallbacks, descriptions of users."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.catalogue import FIRST_INDEX, Catalogue
from features.definitions import DESCRIPTIONS, SLOW_VIEWS
from features.fast import FAST_FEATURES
from features.histories import history_of_lists
from features.items import ItemTables
from features.online import OnlineReader, UserState
from features.recent import EVENT_CODES
from features.views.user_profile import describe
from serving import schemas
from serving.package import model_version
from shoplens.errors import StoreUnavailableError
from shoplens.files import read_json
from shoplens.settings import Settings
from training.models import artifact
from training.rows import Inputs, Task

_DAY_HOURS = 24


def _number(state: UserState, name: str) -> float | None:
    value = state.features.get(name)
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _activity(state: UserState) -> list[str]:
    sentences = []
    orders, spend = _number(state, "orders_30d"), _number(state, "spend_30d")
    if orders:
        sentences.append(f"In the last 30 days: {orders:.0f} orders, {spend or 0:,.2f} spent.")
    elif orders is not None:
        sentences.append("No order in the last 30 days.")
    rate, basket = _number(state, "weekly_orders_90d"), _number(state, "mean_basket_90d")
    if rate and basket:
        sentences.append(f"Over 90 days: {rate:.1f} orders per week, {basket:,.2f} per order on average.")
    top, share = state.features.get("top_category_90d"), _number(state, "top_category_share_90d")
    if isinstance(top, str) and top:
        sentences.append(f"Buys mostly from {top}{f', {share:.0%} of order lines' if share else ''}.")
    return sentences


def _latest(state: UserState, now: np.datetime64, catalogue: Catalogue) -> list[str]:
    events = state.history.log
    if not len(events):
        return []
    hours = (now - events.event_time[-1]) / np.timedelta64(1, "h")
    age = f"{hours / _DAY_HOURS:.1f} days" if hours >= _DAY_HOURS else f"{hours:.1f} hours"
    bought = events.item_index[(events.event_code == EVENT_CODES["purchase"]) & (events.item_index > 1)]
    sentences = [f"Last seen {age} before {str(now)[:16].replace('T', ' ')} UTC."]
    if len(bought):
        items, counts = np.unique(bought, return_counts=True)
        best = items[np.argsort(-counts, kind="stable")][:3]
        rows = [catalogue.frame.row(int(index) - FIRST_INDEX, named=True) for index in best]
        names = [str(row["title"] or row["item_id"]) for row in rows]
        sentences.append(f"Most frequent among the last {len(events)} events: {', '.join(names)}.")
    return sentences


def summary(state: UserState, now: np.datetime64, catalogue: Catalogue, profile_names: tuple[str, ...]) -> list[str]:
    """Return sentences that describe a user at the time `now` (UTC), from declared features of `profile_names`, too."""
    sentences = [*_latest(state, now, catalogue), *_activity(state)]
    known = {name: state.features.get(name) for name in profile_names if state.features.get(name) not in (None, "")}
    if known:
        declared = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known.items())
        sentences.append(f"Declared: {declared}.")
    return sentences or ["Only the ID is known: there are no recent events, orders or declarations."]


_log = logging.getLogger(__name__)
_NO_PROFILE = {
    "unknown_user": "No user with this ID is known, or all data about this user has expired.",
    "store_unavailable": "The online store is unavailable, so no data about this user can be shown.",
}


@dataclass(frozen=True)
class _User:
    """A user as read from the online store: the state, or why there is none."""

    state: UserState | None
    now: np.datetime64
    fallback: schemas.Fallback | None


class Predictions:
    """Computes the answers from one package; loaded once and safe to share between threads."""

    def __init__(self, package: Path, settings: Settings) -> None:
        self.version = model_version(package)
        self.manifest: dict[str, Any] = read_json(package / "manifest.json")
        self._fallback: dict[str, Any] = read_json(package / "fallback.json")
        self._catalogue = Catalogue.load(package / "catalogue.parquet")
        models = {task: artifact.load(package / "models" / task) for task in self.manifest["models"]}
        self._purchase, self._next_item = models.get("purchase"), models.get("next_item")
        self._items = ItemTables.read(package / "items.npz") if self._next_item else None
        self._reader = OnlineReader(settings)

    @property
    def _as_of(self) -> np.datetime64:
        return np.datetime64(self.manifest["as_of"].removesuffix("+00:00"), "us")

    def _read(self, user_id: str) -> _User:
        """Read a user, distinguishing an unavailable store from an unknown user."""
        try:
            state = self._reader.read(user_id, self._catalogue)
            if state is None:
                return _User(None, self._reader.now(), "unknown_user")
        except StoreUnavailableError:
            return _User(None, self._as_of, "store_unavailable")
        # The store may have been loaded with a different last_n since; fast features must count what training counted.
        state = replace(state, history=state.history.last(self.manifest["last_n"]).compact())
        return _User(state, state.now, None)

    def _about(self, user: _User) -> dict[str, Any]:
        return {"model_version": self.version, "as_of": str(user.now), "fallback": user.fallback}

    def _without_model(self, task: Task) -> dict[str, Any]:
        """Return the common fields of an answer to a task that has no model."""
        about = self._about(_User(None, self._as_of, "no_model"))
        return about | {"no_model": self.manifest["missing"][task]}

    def predict_purchase(self, user_id: str) -> schemas.PurchaseAnswer:
        """Return the probability that the user buys within the horizon, the base rate if the user is unknown.

        Without a model, the answer has no probability and gives the reason.
        """
        if self._purchase is None:
            return schemas.PurchaseAnswer(
                user_id=user_id,
                probability=None,
                will_purchase=None,
                horizon_days=None,
                **self._without_model("purchase"),
            )
        user = self._read(user_id)
        probability = float(self._fallback["base_rate"])
        if user.state is not None:
            inputs = Inputs.from_state(user.state, user.now, self._purchase.feature_names)
            probability = float(self._purchase.predict(inputs)[0])
        return schemas.PurchaseAnswer(
            user_id=user_id,
            probability=round(probability, 6),
            will_purchase=probability >= self.manifest["threshold"],
            horizon_days=self.manifest["horizon_days"],
            **self._about(user),
        )

    def _item(self, index: int, score: float) -> schemas.Recommended:
        row = self._catalogue.frame.row(index - 2, named=True)
        path = [part for part in (row["category_1"], row["category_2"]) if part]
        category = " > ".join(path) or None
        return schemas.Recommended(item_id=row["item_id"], title=row["title"], category=category, score=round(score, 8))

    def recommend(self, user_id: str, k: int) -> schemas.RecommendAnswer:
        """Return the k items that the user is most likely to take next, popular items if the user is unknown.

        Without a model, the answer has no items and gives the reason.
        """
        if self._next_item is None:
            return schemas.RecommendAnswer(user_id=user_id, items=[], **self._without_model("next_item"))
        user = self._read(user_id)
        if user.state is None:
            items = [self._item(one["item_index"], one["score"]) for one in self._fallback["popular"][:k]]
        else:
            inputs = Inputs.from_state(user.state, user.now, self._next_item.feature_names, self._items)
            best = self._next_item.recommend(inputs, k)
            ranked = zip(best.items[0].tolist(), best.scores[0].tolist(), strict=True)
            items = [self._item(index, score) for index, score in ranked if index >= FIRST_INDEX]
        return schemas.RecommendAnswer(user_id=user_id, items=items, **self._about(user))

    def profile(self, user_id: str) -> schemas.ProfileAnswer:
        """Return what is known about the user, as text and as numbers."""
        user = self._read(user_id)
        state = user.state
        if state is None:
            return schemas.ProfileAnswer(
                user_id=user_id,
                known=False,
                summary=[_NO_PROFILE[user.fallback or "unknown_user"]],
                features=[],
                recent_events=0,
                snapshot_time=None,
                **self._about(user),
            )
        inputs = Inputs.from_state(state, user.now, FAST_FEATURES)
        fast = {name: float(value) for name, value in zip(FAST_FEATURES, inputs.tabular[0], strict=True)}
        values = {**state.features, **{n: None if np.isnan(v) else v for n, v in fast.items()}}
        declared = tuple(n for n in state.features if not any(n in view for view in SLOW_VIEWS.values()))
        return schemas.ProfileAnswer(
            user_id=user_id,
            known=True,
            summary=summary(state, user.now, self._catalogue, declared),
            features=[
                schemas.Fact(name=n, meaning=DESCRIPTIONS.get(n) or describe(n), value=v) for n, v in values.items()
            ],
            recent_events=int(state.history.lengths[0]),
            snapshot_time=None if np.isnat(state.snapshot_time) else str(state.snapshot_time),
            **self._about(user),
        )

    def not_explained(self, user_id: str) -> schemas.ExplainAnswer:
        """Return the answer while there is no explanation yet."""
        about = self._about(_User(None, self._as_of, "explainer_busy"))
        return schemas.ExplainAnswer(user_id=user_id, explanation=None, **about)

    def about(self) -> schemas.VersionAnswer:
        """Return the versions in service."""
        data = {name: str(value) for name, value in self.manifest["data"].items()}
        return schemas.VersionAnswer(
            model_version=self.version,
            git_revision=self.manifest["git_revision"],
            data=data,
            models=self.manifest["models"],
            missing=self.manifest["missing"],
            as_of=self.manifest["as_of"],
        )

    def _empty(self) -> UserState:
        """Return a user without any event."""
        empty = history_of_lists([], [], [], [], [], [], self.manifest["last_n"], self._catalogue)
        return UserState("", {}, empty, np.datetime64("NaT"), self._as_of)

    def warm(self) -> None:
        """Load and compile everything, so that the first request is not slower than later ones."""
        for user in ("", "\N{SNOWMAN}"):
            self.predict_purchase(user)
            self.recommend(user, 1)
        state = self._empty()  # the compiled functions are the same for all users
        if self._purchase is not None:
            self._purchase.predict(Inputs.from_state(state, self._as_of, self._purchase.feature_names))
        if self._next_item is not None:
            inputs = Inputs.from_state(state, self._as_of, self._next_item.feature_names, self._items)
            self._next_item.recommend(inputs, 1)
        try:
            self._reader.now()
        except StoreUnavailableError as error:
            _log.warning("%s. All users get the fallback until then. SHOPLENS_VAR must point to the store", error)
