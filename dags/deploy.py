"""# Deploy

Compares the packaged model with the one in service and, if it is accepted, releases it.

1. **anything_new** stops when this package was already compared with this model in service under these parameters of
   the gate.
2. **gate** compares the new model with the one in service on the same held-out rows: for each head, the lower bound of
   the 95% interval of (new - current) must be at least `-gate.margin` on average precision and NDCG@10. With nothing in
   service it must beat base rate and popularity. A package that lacks a head which is in service is rejected. Both
   figures, the difference and its interval are in the task's log and in its XCom, and are kept in
   `var/service/verdicts/`.
3. **accepted** stops a rejected model: `release` is skipped and the old model keeps serving.
4. **release** builds the Bento (version = digest of the package), flips `var/service/current`, and waits until the
   service's `/readyz` reports the new version.

The service itself is owned by a supervisor, not by this DAG.
"""

from typing import Any

from airflow.sdk import DAG, task

from common.already_done import digest_of, is_new, remember, service_state
from common.constants import MODEL, OWNER, POOL, RETRY, SERVICE, SHORT_LIMIT
from common.operators import CommandOperator

_REFUSED = 3  # exit status of `shoplens gate`

with DAG(
    dag_id="deploy",
    description="The gate, the Bento, the release",
    doc_md=__doc__,
    schedule=[MODEL],
    catchup=False,
    max_active_runs=1,
    tags=["shoplens", "bentoml"],
    default_args={"owner": OWNER, "execution_timeout": SHORT_LIMIT, **RETRY},
) as dag:

    @task.short_circuit(doc_md="Stop when this package was already compared.")
    def anything_new(triggering_asset_events: Any = None) -> bool:
        """Compare the event's digest and the other inputs of a verdict with those of the last run."""
        return is_new("deploy", digest_of(triggering_asset_events or {}), service_state())

    gate = CommandOperator(
        task_id="gate",
        command="shoplens gate",
        refusal=_REFUSED,
        pool=POOL,
        priority_weight=10,
        doc_md="Compare with the model in service; the verdict is the XCom.",
    )

    @task.short_circuit(doc_md="Stop a rejected model.", trigger_rule="all_success")
    def accepted(verdict: Any, triggering_asset_events: Any = None) -> bool:
        """Continue if the model was accepted; otherwise record the rejection and skip the rest without a failure."""
        if not verdict["accepted"]:
            remember("deploy", digest_of(triggering_asset_events or {}), service_state())
        return bool(verdict["accepted"])

    release = CommandOperator(
        task_id="release",
        command="shoplens release --wait-ready 180",
        outlets=[SERVICE],
        pool=POOL,
        priority_weight=10,
        doc_md="Build the Bento, flip the pointer, wait until the service reports it.",
    )

    @task(doc_md="Keep the digest that is now in service.")
    def remember_digest(triggering_asset_events: Any = None) -> None:
        """Run only after success, so that a killed run is repeated."""
        remember("deploy", digest_of(triggering_asset_events or {}), service_state())

    anything_new() >> gate
    accepted(gate.output) >> release >> remember_digest()
