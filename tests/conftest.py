"""What several test files share: pictures of every kind, and the command line in a process of its own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from imgedit.frame import Frame

# how long an example takes says more of what else runs on the machine than of the code
settings.register_profile("imgedit", deadline=None)
settings.load_profile("imgedit")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
OPERATORS = ROOT / "tests" / "operators"
runpy.run_path(str(OPERATORS / "sitecustomize.py"))
# no test fetches a model; those that do from a server of their own say so
os.environ["HF_HUB_OFFLINE"] = "1"

#: sizes at which borders, halves and cells go wrong: (rows, columns)
SIZES = [(1, 1), (1, 400), (400, 1), (2, 3), (17, 31), (64, 64), (96, 133)]
KINDS = ["rgb8", "rgba8", "grey8", "rgb16", "rgba16"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slice", metavar="K/N", help="run every N-th of the chosen tests, from the K-th (1/1: all)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--slice")
    if wanted:
        # the tests that the marker expression leaves, as -m is applied after this
        chosen = [item for item in items if item.get_closest_marker("slow")]
        first, step = (int(part) for part in wanted.split("/"))
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen[first - 1 :: step]])
        items[:] = chosen[first - 1 :: step]


def picture(kind: str, rows: int, columns: int, *, seed: int = 0) -> Frame:
    """Return a smooth picture with some noise, of the given kind."""
    rng = np.random.default_rng(seed)
    full = 65535 if kind.endswith("16") else 255
    y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns)
    waves = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), np.sin(9 * x * y + 1)], axis=2)
    values = 0.5 + 0.35 * waves + 0.05 * rng.standard_normal((rows, columns, 3))
    pixels = np.clip(values * full, 0, full).astype(np.uint16 if full > 255 else np.uint8)
    if kind == "grey8":
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    alpha = None
    if "a" in kind:
        alpha = (np.clip(0.2 + y + x, 0, 1) * full).astype(pixels.dtype)
    return Frame(pixels, alpha=alpha)


def with_mask(frame: Frame) -> Frame:
    """Return *frame* with a mask over a middle part of it, some of it feathered; at least one pixel stays out."""
    mask = np.zeros((frame.rows, frame.columns), np.uint8)
    r, c = frame.rows, frame.columns
    if r * c > 1:
        mask[r // 3 : r // 3 + max(1, r // 4), c // 3 : c // 3 + max(1, c // 4)] = 255
        mask[r // 3, c // 3] = 128
    return frame.replace(mask=mask)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[Any]]]:
    """Run ``imgedit ARGUMENTS`` in a process of its own, in an empty folder."""

    def call(*arguments: object, stdin: bytes | None = None, **options: Any) -> subprocess.CompletedProcess[Any]:
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{OPERATORS}", **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", "imgedit", *map(str, arguments)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=options.pop("cwd", tmp_path),
            env=env,
            timeout=120,
            **options,
        )

    yield call


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of small diffusion models with random weights: `scripts/small_models.py` says which."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small-models"
    if not folder.exists():
        import small_models as script

        own = base / "small-models-made"
        script.make(own)
        try:
            own.rename(folder)
        except OSError:  # another process of this run was first
            return own
    return folder
