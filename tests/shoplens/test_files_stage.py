import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shoplens.files import file_digest, folder_digest, read_json, whole_file, whole_folder, write_json


def _write_half(path: Path) -> None:
    path.write_text("torn")
    (path.parent / "missing" / "folder").write_text("the other half")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with whole_folder(target) as work:
        (work / "a").write_text("1")
    with pytest.raises(FileNotFoundError), whole_folder(target) as work:
        _write_half(work / "a")
    assert (target / "a").read_text() == "1"
    with whole_folder(target) as work:
        (work / "b").write_text("2")
    assert sorted(p.name for p in target.iterdir()) == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "no temporary folder is left"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"b": 1, "a": "ü"})
    assert target.read_text() == '{\n  "a": "ü",\n  "b": 1\n}\n'
    with pytest.raises(FileNotFoundError), whole_file(target) as work:
        _write_half(work)
    assert read_json(target) == {"a": "ü", "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_digest_sees_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f").write_text("same")
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    os.utime(tmp_path / "one" / "sub" / "f", (0, 0))
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    (tmp_path / "one" / "sub" / "f").rename(tmp_path / "one" / "sub" / "g")
    assert folder_digest(tmp_path / "one") != folder_digest(tmp_path / "two")
    # sha256 of "same", by sha256sum
    assert file_digest(tmp_path / "two/sub/f") == "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"


_WRITE = """
import sys, time
from pathlib import Path
from shoplens.files import whole_folder
with whole_folder(Path(sys.argv[1])) as work:
    (work / "half").write_text("torn")
    print(work, flush=True)
    time.sleep(60)
"""


def _writer(target: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", _WRITE, str(target)], stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def test_what_killed_writers_left_is_removed_by_the_next_and_a_living_ones_stays(tmp_path: Path) -> None:
    dead, left = _writer(tmp_path / "out")
    alive, held = _writer(tmp_path / "out")
    other, of_another = _writer(tmp_path / "out.part")
    old = left.with_suffix(".old")
    old.mkdir()  # killed between its two renames
    try:
        for process in (dead, other):
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert left.exists()
        assert of_another.exists()
        with whole_folder(tmp_path / "out") as work:
            (work / "a").write_text("1")
            assert sorted(tmp_path.glob(".*.tmp")) == sorted([held, of_another, work]), "another target's is not ours"
    finally:
        alive.kill()
        alive.wait()
    assert (held / "half").exists()
    with whole_folder(tmp_path / "out"), whole_folder(tmp_path / "out.part"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.part"]


_HOLD = """
import sys, time
from pathlib import Path
from shoplens.settings import Settings
from shoplens.stage import stage
with stage("held", Settings(root=Path(sys.argv[1]))):
    Path(sys.argv[1], "inside").write_text("x")
    time.sleep(60)
"""


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def test_a_stage_has_one_writer_and_dies_with_its_launcher(tmp_path: Path) -> None:
    run_child = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    launcher = subprocess.Popen([sys.executable, "-c", run_child, _HOLD, str(tmp_path)])
    _wait_for(tmp_path / "inside")
    (held,) = psutil.Process(launcher.pid).children(recursive=True)
    lock = tmp_path / "var/locks/held.lock"
    taken = subprocess.run(["flock", "-n", str(lock), "true"], check=False)
    assert taken.returncode == 1, "the lock is held while the stage runs"
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    held.wait(timeout=15)
    assert subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode == 0
