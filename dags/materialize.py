"""# Materialize

Brings the latest snapshots and recent events of every user from `outs/features` into the online store, which the
prediction service reads.

Runs when the stage `features` has something new to say (its Asset carries the digest of what it left), or when it is
triggered by hand. Writing is newest-wins and can be repeated at any time: `shoplens materialize` changes nothing when
the store already holds this digest.
"""

from typing import Any

from airflow.sdk import DAG, task

from common.constants import FEATURES, OWNER, POOL, RETRY, SHORT_LIMIT
from common.news import digest_of, is_new, remember, store_state
from common.operators import CommandOperator

with DAG(
    dag_id="materialize",
    description="Snapshots and recent events into the online store",
    doc_md=__doc__,
    schedule=[FEATURES],
    catchup=False,
    max_active_runs=1,
    tags=["shoplens", "feast"],
    default_args={"owner": OWNER, "execution_timeout": SHORT_LIMIT, **RETRY},
) as dag:

    @task.short_circuit(doc_md="Stop when the features are those that the store holds.")
    def anything_new(triggering_asset_events: Any = None) -> bool:
        """Compare the event's digest, and what the store holds, with the last ones acted on."""
        return is_new("materialize", digest_of(triggering_asset_events or {}), store_state())

    store = CommandOperator(
        task_id="materialize",
        command="shoplens materialize",
        pool=POOL,
        priority_weight=10,
        doc_md="Write the online store; newest wins.",
    )

    @task(doc_md="Keep the digest that the store now holds.")
    def remember_digest(triggering_asset_events: Any = None) -> None:
        """Only after success: a killed run is done again."""
        remember("materialize", digest_of(triggering_asset_events or {}), store_state())

    anything_new() >> store >> remember_digest()
