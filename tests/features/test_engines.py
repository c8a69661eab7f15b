"""DuckDB and Spark compute the same views, bit for bit, from one definition."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from events.stages import fetch, ingest
from features.definitions import VIEWS
from features.engine.engines import EngineName
from features.stages import compute
from shoplens.params import Params, load_params
from shoplens.settings import Settings
from simulator.plan import Plan
from simulator.run import simulate

pytestmark = pytest.mark.stores

_MAPPING = "events/mappings/simulated.yaml"
_PLAN = Plan(users=60, items=150, days=40, seed=11, events=6_000, dirt={"late": 0.05, "duplicate": 0.02})


@pytest.fixture(scope="module")
def shop(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """A simulated shop's tables to the contract, and parameters."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(_PLAN, folder / "sim")
    (folder / "events/mappings").mkdir(parents=True)
    shutil.copy(root / _MAPPING, folder / _MAPPING)
    params = load_params(root / "params.yaml")
    data = params.data.model_copy(update={"source": "sim", "mapping": _MAPPING, "as_of": None, "user_share": 1.0})
    params = params.model_copy(update={"data": data})
    settings = Settings(root=folder)
    fetch(params, settings)
    ingest(params, settings)
    return settings.outs_dir / "events", params


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A small Spark session of this machine alone; the engine uses the one that is running."""
    sql = pytest.importorskip("pyspark.sql", reason="PySpark is not installed: `make env SPARK=1` installs it")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is no `java` on PATH")
    folder = tmp_path_factory.mktemp("spark")
    options = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.session.timeZone": "UTC",
        # A few thousand events: what takes time is planning and compiling, so there is as little of both as can be.
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder / "local"),
    }
    builder = sql.SparkSession.builder.master("local[2]").appName("shoplens-tests")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def _bits(column: pl.Series) -> pl.Series:
    """Turn floats into the whole numbers of their bits: 0.0 and -0.0 differ, and NaN is like itself."""
    if not column.dtype.is_float():
        return column
    return column.reinterpret(dtype=pl.UInt32 if column.dtype == pl.Float32 else pl.UInt64)


def _compared(one: Path, other: Path) -> tuple[int, int]:
    """Compare two files place by place; return how many values they hold, and how many of these differ."""
    assert pq.read_schema(one) == pq.read_schema(other)
    left, right = pl.read_parquet(one), pl.read_parquet(other)
    assert left.height == right.height
    differ = [_bits(left[name]).ne_missing(_bits(right[name])).sum() for name in left.columns]
    return left.height * left.width, sum(differ)


# Every day is the plan of running sums, one day that of conditions; values are counted so that none is left out.
@pytest.mark.parametrize(("history", "least"), [(None, 100_000), (1, 2_000)], ids=["every day", "the last day"])
def test_spark_gives_the_bits_of_duckdb(
    shop: tuple[Path, Params],
    spark: Any,
    tmp_path: Path,
    history: int | None,
    least: int,
    record_property: Callable[[str, object], None],
) -> None:
    validated, params = shop
    params = params.model_copy(update={"features": params.features.model_copy(update={"history_days": history})})
    engines: tuple[EngineName, ...] = ("duckdb", "spark")
    for engine in engines:
        (tmp_path / engine).mkdir()
        compute(validated, tmp_path / engine, params, engine)
    names = [f"{view.name}.parquet" for view in VIEWS]
    counts = {name: _compared(tmp_path / "duckdb" / name, tmp_path / "spark" / name) for name in names}
    assert {name: differ for name, (_, differ) in counts.items() if differ} == {}
    compared = sum(values for values, _ in counts.values())
    record_property("compared", compared)
    assert compared > least
