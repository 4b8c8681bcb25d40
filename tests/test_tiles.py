"""Tiles: the same as the whole, blended where that cannot be, and whole again after running out of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Knowing, Shifting, Windowed

from imgedit.backends import memory, reach, tiles
from imgedit.backends.tiles import Layout, Tiles
from imgedit.errors import BrokenPromise, OutOfMemory
from imgedit.ops import seams
from imgedit.ops.area import Area


def picture(rows: int, columns: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((3, rows, columns), dtype=np.float32)


def put_together(parts: Tiles, shape: tuple[int, int]) -> Any:
    """Return the parts as one; every pixel must come once, and rows in order."""
    whole = np.full((3, *shape), np.nan, np.float32)
    last = (0, -1)
    for part in parts:
        rows, columns = part.values.shape[1:]
        place = whole[:, part.top : part.top + rows, part.left : part.left + columns]
        assert place.shape == part.values.shape and np.isnan(place).all()
        assert last < (part.top, part.left)
        last = (part.top, part.left)
        place[:] = part.values
    assert not np.isnan(whole).any()
    return whole


def tiled(network: Any, pixels: Any, layout: Layout) -> Any:
    rows, columns = pixels.shape[1:]
    parts = Tiles(network, lambda r, c: pixels[:, r, c], (rows, columns), layout)
    return put_together(parts, (rows * network.scale, columns * network.scale))


def whole(network: Any, pixels: Any) -> Any:
    return tiled(network, pixels, Layout(1 << 20, 0))


@given(
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.sampled_from([16, 33, 64, 100]),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 16]),
)
@settings(max_examples=60)
def test_tiled_equals_untiled(size: tuple[int, int], tile: int, scale: int, multiple: int, smallest: int) -> None:
    network = Shifting(3, scale, multiple, smallest)
    pixels = picture(*size)
    assert np.array_equal(tiled(network, pixels, Layout(tile, 3)), whole(network, pixels))


def test_one_run_is_the_network_itself() -> None:
    pixels = picture(40, 56)
    assert np.array_equal(whole(Shifting(), pixels), Shifting()(pixels))


def test_tiles_are_no_larger_than_asked_for() -> None:
    network = Shifting(8)
    tiled(network, picture(300, 310), Layout(64, 8))
    assert network.largest <= 64 + 2 * 8
    assert network.calls == 25


def test_an_overlap_below_the_reach_is_seen() -> None:
    pixels = picture(120, 120)
    network = Shifting(3)
    difference = np.abs(tiled(network, pixels, Layout(32, 2)) - whole(network, pixels))
    assert difference.max() > 0.01
    # and only along the lines
    assert difference[:, :54, :54].max() == 0


@pytest.mark.parametrize(("distance", "found"), [(1, 8), (8, 8), (9, 16), (30, 32), (33, 64), (64, 64), (65, None)])
def test_the_reach_is_measured(distance: int, found: int | None) -> None:
    assert reach.measure(Shifting(distance)).reach == found


def test_a_network_that_sees_everything_has_no_reach() -> None:
    assert reach.measure(Knowing()).reach is None


def test_windows_need_tiles_on_their_grid() -> None:
    found = reach.measure(Windowed(2, smallest=16))
    assert found == reach.Measured(16, 8)
    pixels, network = picture(100, 130), Windowed(2, smallest=16)
    exact = tiled(network, pixels, Layout(50, 16, step=8))
    assert np.abs(exact - whole(network, pixels)).max() <= 1e-6
    off = tiled(network, pixels, Layout(50, 13, step=1))
    assert np.abs(off - whole(network, pixels)).max() > 1e-3


@pytest.mark.parametrize("layout", [Layout(32, 8, 16), Layout(100, 0, 32), Layout(33, 4, 7)])
def test_blending_a_network_that_could_be_exact_changes_nothing(layout: Layout) -> None:
    pixels = picture(150, 131)
    network = Shifting(4 if layout.overlap else 0)
    assert np.abs(tiled(network, pixels, layout) - whole(network, pixels)).max() <= 1e-6


class Offset(Shifting):
    """Adds to what it sees as much as it has seen before: no two tiles agree."""

    def __call__(self, window: Any) -> Any:
        return 0.5 * super().__call__(window) + np.float32(0.05 * (self.calls % 2))


def test_blended_tiles_show_no_seam_and_hard_ones_do() -> None:
    pixels = np.full((3, 128, 160), 0.5, np.float32)
    scores = []
    for ramp in (0, 32):
        network = Offset(0, 2)
        parts = Tiles(network, lambda r, c: pixels[:, r, c], (128, 160), Layout(32, 16, ramp))
        made = put_together(parts, (256, 320))
        levels = np.rint(made.transpose(1, 2, 0) * 65535).astype(np.uint16)
        scores.append(seams.score(levels, *parts.lines))
    assert parts.lines == ([64, 128, 192], [64, 128, 192, 256])
    assert scores[0] > 10
    assert scores[1] < 1.5


def test_the_seam_score_of_a_picture_without_seams_is_one() -> None:
    texture = np.random.default_rng(3).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    assert 0.8 < seams.score(texture, [64, 128, 192, 256], [64, 128, 192, 256, 320]) < 1.2
    y, x = np.mgrid[:300, :400]
    ramp = np.repeat((y // 3 + x // 3)[..., None], 3, axis=2).astype(np.uint8)
    assert seams.score(ramp, [100, 200], [200]) < 1.5
    assert seams.score(texture, [], []) == 1.0
    texture[:, 200:] = np.clip(texture[:, 200:] // 2 + 110, 0, 255)
    assert seams.score(texture, [], [200]) > 1.5


# --- out of memory -----------------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 20), max_size=2), st.sampled_from([0, 16]), st.integers(0, 9))
@settings(max_examples=25)
def test_running_out_of_memory_changes_nothing(fail: set[int], ramp: int, seed: int) -> None:
    pixels, network = picture(260, 330, seed), Shifting(5)
    expected = tiled(Shifting(5), pixels, Layout(128, 8, ramp))
    network.fail = fail
    network.error = RuntimeError if seed % 2 else MemoryError
    parts = Tiles(network, lambda r, c: pixels[:, r, c], (260, 330), Layout(128, 8, ramp))
    made = put_together(parts, (520, 660))
    assert np.abs(made - expected).max() <= 1e-6
    assert parts.halved == len([call for call in fail if call <= network.calls])


def test_finished_tiles_are_kept() -> None:
    pixels, network = picture(256, 256), Shifting(5)
    network.fail = {4}
    parts = Tiles(network, lambda r, c: pixels[:, r, c], (256, 256), Layout(128, 8))
    put_together(parts, (512, 512))
    # three whole tiles, the one that failed, and that one in four parts
    assert network.calls == 3 + 1 + 4


@pytest.mark.parametrize("ramp", [0, 16])
def test_the_smallest_tile_is_the_end(ramp: int) -> None:
    pixels, network = picture(100, 100), Shifting(5)
    network.fail = set(range(3, 99))
    with pytest.raises(OutOfMemory) as error:
        list(Tiles(network, lambda r, c: pixels[:, r, c], (100, 100), Layout(64, 8, ramp)))
    assert error.value.exit_code == 75
    assert "memory" in error.value.hint


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    pixels = picture(20, 20)

    class Odd(Shifting):
        def __call__(self, window: Any) -> Any:
            raise ValueError("the sizes of tensors must match")

    with pytest.raises(ValueError, match="match"):
        list(Tiles(Odd(), lambda r, c: pixels[:, r, c], (20, 20), Layout(64, 8)))


def test_a_network_that_lies_about_its_scale_is_named() -> None:
    made = Shifting(1, 2)

    class Lying(Shifting):
        def __call__(self, window: Any) -> Any:
            return made(window)

    with pytest.raises(BrokenPromise, match="scale 3"):
        tiles.checked(Lying(1, 3), picture(8, 8))


# --- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        type("OutOfMemoryError", (RuntimeError,), {})("anything"),
    ],
    ids=str,
)
def test_every_allocator_is_understood(error: Exception) -> None:
    assert memory.is_lack(error)


@pytest.mark.parametrize(
    "error",
    [ValueError("3"), RuntimeError("shape '[2]' is invalid"), OutOfMemory("not enough memory", ""), OSError(28)],
)
def test_nothing_else_is(error: Exception) -> None:
    assert not memory.is_lack(error)


def test_memory_is_measured() -> None:
    held = np.ones(4 << 20)
    before = memory.resident()
    assert before >= held.nbytes
    # the system counts in batches
    assert memory.peak() >= before - (16 << 20)
    # more than was ever held: seen however short it is
    with memory.Watch() as watch:
        np.ones((memory.peak() + (64 << 20)) // 8)
    assert watch.taken > 64 << 20
    assert watch.peak == watch.before + watch.taken
    assert 0 < memory.available() < 1 << 50


def test_where_no_thread_can_start_memory_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", fail)
    with memory.Watch() as watch:
        held = np.ones(8 << 20)
    assert watch.taken >= held.nbytes // 2


def test_what_is_left_is_the_least_of_what_everybody_leaves(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   8000000 kB\n",
        "proc/self/cgroup": "4:memory:/a/b\n0::/new/one\n",
        "sys/fs/cgroup/new/one/memory.max": "max\n",
        "sys/fs/cgroup/new/memory.max": "5000000000",
        "sys/fs/cgroup/new/memory.current": "3000000000",
        "sys/fs/cgroup/new/memory.stat": "anon 1\ninactive_file 500000000\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9000000000",
        "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1000000000",
        "sys/fs/cgroup/memory/a/memory.stat": "total_inactive_file 7\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    assert memory.available() == 5_000_000_000 - 3_000_000_000 + 500_000_000
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1000 kB")
    assert memory.available() == 1000 << 10
    monkeypatch.setattr(memory, "in_use", lambda device: 400 << 10)
    assert memory.budget(None) == 500 << 10
    assert memory.budget(0.0005) == 500_000 - (400 << 10)
    assert memory.budget(1) == int(0.9 * (1000 << 10))
    assert memory.budget(0.0001) == 0


# --- reduction in parts ------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.floats(0.2, 1), st.floats(0.2, 1)),
    st.integers(1, 40),
)
@settings(max_examples=60)
def test_means_over_areas_do_not_depend_on_the_parts(
    size: tuple[int, int], ratio: tuple[float, float], step: int
) -> None:
    result = tuple(max(1, int(side * share)) for side, share in zip(size, ratio))
    pixels = picture(*size)
    area = Area(3, size, (result[0], result[1]))
    made = np.full((3, *result), np.nan)
    for top in range(0, size[0], step):
        for left in range(0, size[1], step):
            first, rows = area.add(top, left, pixels[:, top : top + step, left : left + step])
            made[:, first : first + rows.shape[1]] = rows
    matrices = []
    for large, small in zip(size, result):
        edges = np.arange(small + 1) * large / small
        shares = np.minimum(edges[1:, None], np.arange(large) + 1) - np.maximum(edges[:-1, None], np.arange(large))
        matrices.append(np.maximum(shares, 0) * small / large)
    assert np.abs(made - matrices[0] @ pixels.astype(np.float64) @ matrices[1].T).max() < 1e-5
