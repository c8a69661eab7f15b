"""The stage `package`."""

from serving.package import build_package, model_version
from shoplens.params import Params
from shoplens.settings import Settings
from shoplens.stage import console


def package(params: Params, settings: Settings) -> None:
    """Collect code, weights, feature definitions and digests in outs/package."""
    folder = build_package(params, settings)
    console.print(f"model version {model_version(folder)}")
