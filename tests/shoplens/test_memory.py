"""Memory that was freed is used again without asking the system, in every thread."""

import platform
import subprocess
import sys

import pytest

_STEPS = """
import resource, sys, threading
import numpy as np
from shoplens.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def step():
    for _ in range(10):
        held = [np.ones(5_000_000, dtype=np.uint8) for _ in range(20)]
        del held

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):  # the first time, memory is new in either case
    before = faults()
    worker = threading.Thread(target=step)
    worker.start() if sys.argv[2] == "thread" else step()
    if worker.ident:
        worker.join()
    found = faults() - before
print(found)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_freed_memory_is_used_again(where: str) -> None:
    def page_faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _STEPS, how, where], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert page_faults("kept") * 3 < page_faults("returned")
