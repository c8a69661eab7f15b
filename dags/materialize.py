"""# Materialize

Loads the latest snapshots and the recent events of every user from `outs/features` into the online store, which the
prediction service reads.

Runs when the stage `features` left something (its Asset carries the digest), or when it is triggered by hand. The
command decides what there is to do: it changes nothing when the store already holds this digest, and loads again
whatever is missing. It prints the digest of what the store holds, which the Asset `online_store` carries on.
"""

from airflow.sdk import DAG

from common.constants import FEATURES, ONLINE_STORE, OWNER, POOL, RETRY, SHORT_LIMIT
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
    CommandOperator(
        task_id="materialize",
        command="shoplens materialize",
        outlets=[ONLINE_STORE],
        pool=POOL,
        priority_weight=10,
        doc_md="Load the online store; the newest value wins.",
    )
