"""Each switch is one that the installed tool reads; a tool without a switch has no telemetry to switch."""

import importlib.util
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

from shoplens.environment import TELEMETRY_OFF

# switch -> the package whose source reads it. Great Expectations 1.24 only documents its own and sends nothing.
READERS = {
    "BENTOML_DO_NOT_TRACK": "bentoml",
    "DVC_NO_ANALYTICS": "dvc",
    "GX_ANALYTICS_ENABLED": "great_expectations",
    "ITERATIVE_DO_NOT_TRACK": "iterative_telemetry",
}
# Clients of analytics services. One in an environment means that some tool has begun to report: find its switch.
CLIENTS = {
    "amplitude-analytics",
    "analytics-python",
    "datadog",
    "mixpanel",
    "posthog",
    "rudder-sdk-python",
    "scarf",
    "segment-analytics-python",
    "sentry-sdk",
    "snowplow-tracker",
}


def source_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.py")))


def site_packages(environment: Path) -> Path:
    return environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def test_every_switch_has_a_reader() -> None:
    assert set(READERS) == set(TELEMETRY_OFF)


@pytest.mark.parametrize("switch", sorted(READERS))
def test_the_tool_knows_its_switch(switch: str) -> None:
    assert switch in source_of(READERS[switch])


def test_values_mean_off() -> None:
    # BentoML: os.environ[...].lower() == "true"; DVC and iterative-telemetry: any non-empty value.
    assert TELEMETRY_OFF["BENTOML_DO_NOT_TRACK"].lower() == "true"
    assert TELEMETRY_OFF["DVC_NO_ANALYTICS"]
    assert TELEMETRY_OFF["ITERATIVE_DO_NOT_TRACK"]
    assert TELEMETRY_OFF["GX_ANALYTICS_ENABLED"].lower() == "false"


@pytest.mark.parametrize("environment", [".venv", ".venv-airflow"])
def test_no_analytics_client_is_installed(root: Path, environment: str) -> None:
    packages = site_packages(root / environment)
    if not packages.is_dir():
        pytest.skip(f"no {environment} for this Python: run `make env`")
    names = {dist.metadata["Name"].lower().replace("_", "-") for dist in distributions(path=[str(packages)])}
    assert len(names) > 50
    assert names & CLIENTS == set()


def test_airflow_has_no_usage_reporting_to_switch_off(root: Path) -> None:
    template = site_packages(root / ".venv-airflow") / "airflow/config_templates/config.yml"
    if not template.is_file():
        pytest.skip("no orchestrator environment: run `make env`")
    sections = yaml.safe_load(template.read_text())
    assert "core" in sections
    words = ("usage_data", "analytics", "telemetry", "check_update")
    found = [
        f"{section}.{option}"
        for section, content in sections.items()
        for option in ["", *content["options"]]
        if any(word in f"{section}.{option}" for word in words)
    ]
    assert found == []


def test_dvc_neither_reports_nor_looks_for_updates(root: Path) -> None:
    """DVC's look for updates has no environment variable, so the project's own DVC configuration says no."""
    from dvc.config import Config

    core = Config(str(root / ".dvc"), validate=True)["core"]
    assert core["analytics"] is False
    assert core["check_update"] is False
