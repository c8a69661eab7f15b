"""Names and limits shared by several DAGs; no I/O."""

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import Asset

ROOT = Path(os.environ.get("SHOPLENS_ROOT") or Path(__file__).resolve().parents[2])
VAR = ROOT / os.environ.get("SHOPLENS_VAR", "var")

# One slot: two `dvc repro` at once fail on DVC's lock (DVC issue 3783), and what reads outs must not meet a writer.
POOL = "workspace"
OWNER = "shoplens"

FEATURES = Asset(name="features", uri="shoplens://features")
ONLINE_STORE = Asset(name="online_store", uri="shoplens://online-store")
MODEL = Asset(name="model", uri="shoplens://model")
SERVICE = Asset(name="service", uri="shoplens://service")

RETRY = {"retries": 1, "retry_delay": timedelta(seconds=5)}
STAGE_LIMIT = timedelta(hours=2)
SHORT_LIMIT = timedelta(minutes=15)
