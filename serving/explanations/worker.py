"""The explanation worker: `python -m serving.explanations.worker PACKAGE`.

It reads one request per line of standard input, JSON with user_id and item_id, and writes one line of JSON per request:
{"answer": ...}, or {"error": ...} for a request that cannot be answered. The first line that it writes is {"ready":
true}. It ends with its input, so it never outlives the service; a fault ends it, too, and the service starts another.
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
        os.dup2(2, 1)  # what a library prints must not end up between the answers

        def write(content: dict[str, Any]) -> None:
            out.write(json.dumps(content) + "\n")
            out.flush()

        from serving.explanations.answers import Explanations

        explanations = Explanations(Path(sys.argv[1]), Settings())
        explanations.warm()
        write({"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = explanations.explain(asked["user_id"], asked["item_id"])
                write({"answer": answer.model_dump(mode="json")})
            except ShopLensError as error:
                write({"error": str(error)})


if __name__ == "__main__":
    main()
