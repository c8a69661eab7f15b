"""The explanation worker: `python -m serving.explanations.worker PACKAGE`.

It reads one request per line of standard input, as JSON with user_id and item_id, and writes one line of JSON per
request: {"answer": ...}, {"error": ...} for a request that cannot be answered, or {"fault": ...} if the worker failed.
Its first line is {"ready": true}, or {"error": ...} for a package that cannot be explained. It exits at the end of its
input, so it does not outlive the service.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from shoplens.errors import ShopLensError
from shoplens.settings import Settings


def main() -> None:
    """Answer requests until the input ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # keeps library output out of the answers

        def write(content: dict[str, Any]) -> None:
            out.write(json.dumps(content) + "\n")
            out.flush()

        from serving.explanations.answers import Explanations

        try:
            explanations = Explanations(Path(sys.argv[1]), Settings())
            explanations.warm()
        except ShopLensError as error:
            write({"error": str(error)})
            return
        write({"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = explanations.explain(asked["user_id"], asked["item_id"])
                write({"answer": answer.model_dump(mode="json")})
            except ShopLensError as error:
                write({"error": str(error)})
            except Exception as error:  # noqa: BLE001  (one failing request must not stop the worker for the others)
                write({"fault": type(error).__name__})


if __name__ == "__main__":
    main()
