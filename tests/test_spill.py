"""Arrays in files: like any other, without a trace, and not in memory; memory stays flat as pictures grow."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgedit import codec, spill
from imgedit.backends import memory
from imgedit.frame import Frame

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _unlimited() -> Iterator[None]:
    yield
    spill.configure(None)


def test_small_arrays_stay_in_memory() -> None:
    spill.configure(1 << 30)
    small = spill.empty((100, 100, 3), np.uint16)
    assert small.shape == (100, 100, 3) and small.dtype == np.uint16
    assert spill.in_memory(small) == small.nbytes
    assert spill.in_memory(small[:50, :, 0]) == small.nbytes // 6
    # without a target only what no machine has room for
    spill.configure(None)
    assert spill.in_memory(spill.empty((3000, 3000, 3), np.uint8)) == 27_000_000


def test_large_ones_hold_what_is_written_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spill.configure(1)
    random = np.random.default_rng(0)
    values = random.integers(0, 65536, (1200, 1300, 3)).astype(np.uint16)
    held = spill.empty(values.shape, np.uint16)
    assert spill.in_memory(held) == spill.in_memory(held[..., :2]) == 0
    held[:] = values
    assert list(tmp_path.iterdir()) == []
    frame = Frame(held)
    assert frame.digest == Frame(values).digest
    assert spill.in_memory(frame.pixels) == 0
    del held, frame
    gc.collect()
    assert not spill._maps


def test_pages_are_handed_back_and_come_again() -> None:
    spill.configure(64 << 20)
    held = spill.empty((64 << 20,), np.uint8)
    before = spill._mapped()
    most = 0
    for round_ in range(2):
        for at in range(0, len(held), 1 << 20):
            held[at : at + (1 << 20)] = at >> 20
            most = max(most, spill._mapped() - before)
        assert (held[:: 1 << 20] == np.arange(64)).all(), round_
    # the watch looks every 10 ms: on a busy machine some more may be there for a moment
    assert most < 60 << 20


def test_a_full_disk_is_an_error_and_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    spill.configure(1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        spill.empty((20 << 20,), np.uint8)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_is_read_into_a_file_all_the_same(kind: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1700, 1800, 3)).astype(kind)
    alpha = random.integers(0, 256, (1700, 1800)).astype(kind)
    codec.write_file(Frame(pixels, alpha=alpha), tmp_path / "in.png")
    spill.configure(1)
    frame = codec.read_file(tmp_path / "in.png")
    assert spill.in_memory(frame.pixels) == 0
    assert np.array_equal(frame.pixels, pixels) and frame.alpha is not None and np.array_equal(frame.alpha, alpha)


def test_memory_may_be_asked_for_beforehand() -> None:
    assert memory.budget(1000.0) <= 0.9 * memory.available() + (64 << 20)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    peaks = []
    for side in (2200, 5000):
        y = np.arange(side)
        pixels = np.stack([np.add.outer(y, y * k) % 251 for k in (1, 2, 3)], axis=2).astype(np.uint8)
        codec.write_file(Frame(pixels), tmp_path / f"{side}.png")
        del pixels
        code = (
            "import resource, subprocess, sys\n"
            f"command = [sys.executable, '-m', 'imgedit', 'upscale', '{side}.png', '-o', 'out.png',"
            " '--memory-target-gb', '0.25']\n"
            "subprocess.run(command, check=True)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    # 4.8 and 25 megapixels, four times as many made: all of the latter at once are 375 MiB
    assert max(peaks) < 1.2 * min(peaks)
