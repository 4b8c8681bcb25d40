"""Commands that are killed, and batches that are long: whole files, and memory that does not grow."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, picture
from PIL import Image

from imgedit import codec


def kill_at_random_moments(tmp_path: Path, kills: int, how: signal.Signals) -> None:
    """Kill a batch that overwrites its own results while it runs, as often as asked, and look at what is left.

    How long the batch takes depends on what else the machine does; a batch that was done before the kill does not
    count, and makes the next waits shorter.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for i in range(12):
        Image.effect_noise((160, 160), 60).convert("RGB").save(tmp_path / "in" / f"{i}.png")
    arguments = [sys.executable, "-m", "imgedit", "mask", "in", "--rect", "9,9,30,20", "-o", "out"]
    start = time.perf_counter()
    subprocess.run(arguments, cwd=tmp_path, env=env, check=True)
    whole = time.perf_counter() - start
    rng = random.Random(3)
    hits = missed = 0
    while hits < kills:
        process = subprocess.Popen(arguments, cwd=tmp_path, env=env)
        time.sleep(rng.uniform(0.2, 1.0) * whole)
        process.send_signal(how)
        if process.wait() == 0:
            missed += 1
            whole *= 0.95
            assert missed < 50 + kills
            continue
        hits += 1
        for path in (tmp_path / "out").iterdir():
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            elif not path.name.startswith("."):
                codec.read_file(path, codec.Limits())
        if how is signal.SIGTERM:
            assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_kills_leave_whole_files(tmp_path: Path, how: signal.Signals) -> None:
    kill_at_random_moments(tmp_path, 8, how)


@pytest.mark.slow
def test_a_hundred_kills_leave_whole_files(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 100, signal.SIGKILL)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    def peaks(count: int) -> list[int]:
        folder = tmp_path / str(count)
        folder.mkdir()
        codec.write_file(picture("rgb8", 300, 400), folder / "x.png")
        data = (folder / "x.png").read_bytes()
        for path in folder.iterdir():
            path.unlink()
        for i in range(count):
            (folder / f"{i:03}.png").write_bytes(data)
        (folder / "p.py").write_text(
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from imgedit.cli import main\n"
            "code = main(sys.argv[1:])\n"
            "Path(sys.argv[1] + '.peak').write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))\n"
            "sys.exit(code)\n"
        )
        steps = ["mask . --rect 20,20,40,12", "erase", "upscale --scale 1.5", "match-hist -q"]
        command = " | ".join(f"{sys.executable} p.py {step}" for step in steps)
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", command + " > out.stream"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        with (folder / "out.stream").open("rb") as file:
            assert sum(1 for _ in codec.read_stream(file, codec.Limits())) == count
        return [int((folder / f"{step.split()[0]}.peak").read_text()) for step in steps]

    for few, many in zip(peaks(30), peaks(300)):
        assert many <= 1.3 * few
