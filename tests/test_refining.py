"""What refines runs in tiles like any network: several at once, within a memory target, whole after a lack of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from imgedit import codec, registry
from imgedit.backends import memory
from imgedit.backends.tiles import Parts
from imgedit.backends.upscale import _by_refining, hybrid
from imgedit.errors import OutOfMemory
from imgedit.frame import Frame
from imgedit.jobs import Resources
from imgedit.ops import refine
from imgedit.ops.ladder import Exemplars


def photo(rows: int, columns: int, channels: int = 3, dtype: Any = np.uint8) -> Any:
    random = np.random.default_rng(1)
    coarse = cv2.resize(random.random((9, 11, channels)), (columns, rows), interpolation=cv2.INTER_CUBIC)
    values = np.clip(0.2 + 0.6 * coarse + 0.1 * random.random((rows, columns, channels)), 0, 1)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


class Squares(Parts):
    """Each pixel is its row times its column; calls of these numbers run out of memory."""

    fail: frozenset[int] = frozenset()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls, self.busy, self.most, self.largest = 0, 0, 0, 0
        self._counting = threading.Lock()

    def _once(self, rows: range, columns: range) -> Any:
        with self._counting:
            self.calls += 1
            number, self.busy = self.calls, self.busy + 1
            self.most, self.largest = max(self.most, self.busy), max(self.largest, len(rows), len(columns))
        try:
            if number in self.fail:
                raise MemoryError("Failed to allocate memory for requested buffer")
            return np.multiply.outer(np.asarray(rows), np.asarray(columns))[None].astype(np.float32)
        finally:
            with self._counting:
                self.busy -= 1


def together(parts: Parts, size: tuple[int, int]) -> Any:
    whole, last = np.full(size, -1, np.float32), (0, -1)
    for part in parts:
        rows, columns = part.values.shape[1:]
        place = whole[part.top : part.top + rows, part.left : part.left + columns]
        assert (place == -1).all()
        assert last < (part.top, part.left)
        last = (part.top, part.left)
        place[:] = part.values[0]
    return whole


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([16, 33, 64, 200]),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 4),
    st.frozensets(st.integers(1, 30), max_size=2),
)
@settings(max_examples=80)
def test_tiles_side_by_side_come_in_order_and_survive_a_lack_of_memory(
    size: tuple[int, int], tile: int, step: int, workers: int, fail: frozenset[int]
) -> None:
    size = (size[0] * step, size[1] * step)
    parts = Squares(size, tile, step=step, least=2 * step, workers=workers)
    parts.fail = fail
    assert np.array_equal(together(parts, size), np.multiply.outer(np.arange(size[0]), np.arange(size[1])))
    assert parts.most <= workers
    assert parts.largest <= -(-tile // step) * step
    # two that fail at the same time halve once
    assert (parts.halved > 0) == any(call <= parts.calls for call in fail)
    assert parts.halved <= len(fail)


def test_what_runs_out_at_the_smallest_tile_ends_all_workers() -> None:
    parts = Squares((400, 400), 64, workers=3)
    parts.fail = frozenset(range(7, 999))
    with pytest.raises(OutOfMemory) as error:
        together(parts, (400, 400))
    assert error.value.exit_code == 75
    assert parts.busy == 0


# --- the refiner -------------------------------------------------------------------------------------------


class Failing:
    """The shipped network; calls of these numbers run out of memory."""

    def __init__(self, *fail: int) -> None:
        self.fail, self.calls, self.network = fail, 0, hybrid._network()
        self._counting = threading.Lock()

    def __call__(self, planes: Any, scale: int) -> Any:
        with self._counting:
            self.calls += 1
            number = self.calls
        if number in self.fail:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory")
        return self.network(planes, scale)


@pytest.fixture
def threads() -> Iterator[Any]:
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)


@pytest.mark.parametrize("scale", [2, 3, 1.6])
@pytest.mark.parametrize(("fail", "workers"), [((2,), 1), ((1, 4), 2), ((3, 9), 2)])
def test_a_lack_of_memory_changes_nothing(scale: float, fail: tuple[int, ...], workers: int, threads: Any) -> None:
    threads(workers)
    pixels = photo(120, 150, 4)
    pixels[40:60, 30:80, 3] = 0
    size = round(120 * scale), round(150 * scale)
    beyond = refine.Beyond(1.2, 2, Exemplars(0.5) if scale == 2 else None)
    asked = Resources(coarse_tile=112)
    whole = _by_refining.enlarge(pixels, *size, hybrid._network(), beyond=beyond, resources=asked)
    network = Failing(*fail)
    made = _by_refining.enlarge(pixels, *size, network, beyond=beyond, resources=asked)
    assert whole.notes["halved"] == 0 < made.notes["halved"]
    # other tiles: rounded the other way where that is a matter of the last bit
    assert np.abs(made.pixels.astype(int) - whole.pixels).max() <= 1
    assert (made.pixels != whole.pixels).mean() < 1e-4


@pytest.mark.parametrize("name", ["lanczos", "hybrid"])
def test_threads_that_cannot_start_are_a_lack_of_memory(
    name: str, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    threads(2)
    pixels, backend = photo(40, 50), registry.backend("upscale", name)
    expected = backend.upscale(pixels, 80, 100).pixels
    monkeypatch.setattr("threading.Thread.start", fail)
    with pytest.raises((OutOfMemory, MemoryError), match="thread"):
        backend.upscale(pixels, 80, 100)
    # one needs none
    threads(1)
    assert np.array_equal(backend.upscale(pixels, 80, 100).pixels, expected)


def test_no_memory_at_all_is_said() -> None:
    with pytest.raises(OutOfMemory, match="even for a tile"):
        _by_refining.enlarge(photo(90, 90), 180, 180, Failing(*range(1, 99)))


@pytest.mark.parametrize("name", ["hybrid", "ladder"])
def test_the_memory_target_is_planned_kept_and_recorded(name: str, threads: Any) -> None:
    threads(2)
    backend = registry.backend("upscale", name)
    pixels = photo(300, 320)
    free = backend.upscale(pixels, 600, 640)
    memory.give_back()
    target = round((memory.resident() + 90 * 10**6) / 10**9, 4)
    made = backend.upscale(pixels, 600, 640, resources=Resources(target))
    found = made.notes["memory"]
    assert found["target_gb"] == target
    assert found["planned_gb"] <= target
    assert found["measured_gb"] <= 1.1 * target
    assert made.notes["exact"] and made.notes["tile"] < free.notes["tile"]
    assert np.abs(made.pixels.astype(int) - free.pixels).max() <= 1


def test_a_target_that_nothing_fits_into_says_what_would_do() -> None:
    for name in ("hybrid", "lanczos"):
        backend = registry.backend("upscale", name)
        with pytest.raises(OutOfMemory) as error:
            backend.upscale(photo(200, 200), 400, 400, resources=Resources(0.05))
        assert "nothing may be taken beside what the program itself holds" in error.value.message
        enough = float(error.value.hint.split()[1])
        assert backend.upscale(photo(200, 200), 400, 400, resources=Resources(enough)).pixels.shape == (400, 400, 3)


def test_less_overlap_than_needed_is_blended_and_said(caplog: pytest.LogCaptureFixture) -> None:
    pixels = photo(150, 160)
    exact = _by_refining.enlarge(pixels, 300, 320, hybrid._network(), resources=Resources(coarse_tile=64))
    assert exact.notes["exact"] and "seam" not in exact.notes
    need = exact.notes["overlap"]
    asked = Resources(coarse_tile=64, overlap=4)
    little = _by_refining.enlarge(pixels, 300, 320, hybrid._network(), resources=asked)
    assert (little.notes["overlap"], little.notes["exact"]) == (4, False)
    assert f"an overlap of 4 pixels is less than the {need}" in caplog.text
    assert little.notes["seam"] < 1.3
    assert 0 < np.abs(little.pixels.astype(int) - exact.pixels).mean() < 1
    more = _by_refining.enlarge(pixels, 300, 320, hybrid._network(), resources=Resources(coarse_tile=64, overlap=need))
    assert np.array_equal(more.pixels, exact.pixels)


def test_the_profile_has_tiles(run: Callable[..., Any]) -> None:
    done = run("profile", "hybrid", "--size", 150, "--tile", 64, "--tile", 96, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["tile"] for row in rows] == [160, 64, 96]
    assert all(row["overlap"] > 0 and row["peak_gb"] > 0.05 for row in rows)


def test_the_shell_records_the_plan(run: Callable[..., Any], tmp_path: Path) -> None:
    codec.write_file(picture("rgb8", 80, 90), tmp_path / "in.png")
    for name in ("hybrid", "lanczos"):
        done = run("upscale", "in.png", "--backend", name, "--memory-target-gb", "0.4", "-o", "out.png")
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / "out.png.json").read_text())["steps"][-1]["notes"]["memory"]
        assert found["target_gb"] == 0.4 and found["planned_gb"] < 0.4 and found["measured_gb"] < 0.4
    refused = run("upscale", "in.png", "--backend", "hybrid", "--memory-target-gb", "0.06", "-o", "no.png")
    assert refused.returncode == 75
    assert b"--memory-target-gb 0." in refused.stderr
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize("tile", [16, 17, 33])
def test_blended_tiles_of_any_size_lie_where_they_belong(tile: int) -> None:
    pixels = photo(61, 90, 4)
    for size in ((122, 180), (61, 135), (183, 97)):
        whole = _by_refining.enlarge(pixels, *size, hybrid._network())
        asked = Resources(coarse_tile=tile, overlap=8)
        parts = _by_refining.enlarge(pixels, *size, hybrid._network(), resources=asked)
        assert np.abs(parts.pixels.astype(int) - whole.pixels).mean() < 0.2


def test_memory_that_runs_out_in_a_sliver_halves_the_tiles() -> None:
    class Fixed(Squares):
        def _starts(self, size: int) -> list[int]:
            return list(range(0, size, self._limit))

    parts = Fixed((208, 192), 192)
    parts.fail = frozenset({2})  # the 16 rows below the first tile
    assert np.array_equal(together(parts, (208, 192)), np.multiply.outer(np.arange(208), np.arange(192)))
    assert parts.halved == 1


def test_networks_run_in_private(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # where it reports to its makers, onnxruntime leaves a file of its own here
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    codec.write_file(Frame(photo(40, 40)), tmp_path / "in.png")
    assert run("upscale", "in.png", "--backend", "hybrid", "-o", "out.png").returncode == 0
    assert not list((tmp_path / "temporary").iterdir())
