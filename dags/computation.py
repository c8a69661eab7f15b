"""# Computation

What is computed from what: **one task for each stage of `dvc.yaml`**, with the edges that follow from the paths that
the stages read and leave. This DAG is built from that file and adds nothing.

Each task runs `dvc repro --single-item STAGE`, so a run here and `dvc repro` in a shell are the same run: a stage whose
inputs did not change is skipped by DVC, and `dvc.lock` ends up the same. Tasks share the one-slot pool `workspace`.

* A failed task: read its log; the command in its first line can be pasted into a shell.
* A run that was killed: trigger it again. Stages leave whole folders or nothing.
* Afterwards `features` triggers **materialize**, and `package` triggers **deploy**, through Assets that carry a digest.
* `push` copies what is new in DVC's cache to its default remote.
"""

from airflow.sdk import DAG

from common.constants import FEATURES, MODEL, OWNER, POOL, RETRY, ROOT, SHORT_LIMIT, STAGE_LIMIT, VAR
from common.graph import edges, read_stages
from common.operators import CommandOperator

_OUTLETS = {"features": [FEATURES], "package": [MODEL]}
_BESIDE = {"validate": VAR / "data_docs/index.html"}

with DAG(
    dag_id="computation",
    description="dvc.yaml, stage by stage",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["shoplens", "dvc"],
    default_args={"owner": OWNER, "pool": POOL, **RETRY},
) as dag:
    stages = read_stages(ROOT / "dvc.yaml")
    tasks = {
        stage.name: CommandOperator(
            task_id=stage.name,
            command=f"dvc repro --single-item {stage.name}",
            digest_of=stage.name,
            beside=_BESIDE.get(stage.name),
            outlets=_OUTLETS.get(stage.name, []),
            execution_timeout=STAGE_LIMIT,
            doc_md=f"{stage.text}\n\nRuns `{stage.command}` under DVC.",
        )
        for stage in stages.values()
    }
    for upstream, downstream in sorted(edges(stages)):
        tasks[upstream] >> tasks[downstream]
    push = CommandOperator(
        task_id="push",
        command="dvc push",
        execution_timeout=SHORT_LIMIT,
        doc_md="Copy what is new in DVC's cache to its default remote.",
    )
    [task for task in tasks.values() if not task.downstream_list] >> push
