"""`imgedit profile`: what upscalers take, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nets import real


def test_rows_for_sizes_and_tiles(run: Callable[..., Any], tmp_path: Path) -> None:
    real("compact2", tmp_path)
    options = ("spandrel:compact2.safetensors", "--size", 100, "--size", 64, "--tile", 48, "--tile", 80, "--json")
    done = run("profile", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["schema"], found["scale"]) == (1, 2.0)
    rows = found["rows"]
    # the planned tile first, then those that are smaller than the picture
    assert [(row["rows"], row["tile"]) for row in rows] == [(64, 64), (64, 48), (100, 112), (100, 48), (100, 80)]
    for row in rows:
        assert row["overlap"] == 8
        assert row["seconds"] > 0 and row["megapixels_per_second"] > 0
        assert row["peak_gb"] > 0.05 and 0 <= row["taken_gb"] <= row["peak_gb"]


def test_a_table_for_people(run: Callable[..., Any]) -> None:
    done = run("profile", "lanczos", "--size", 64)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.decode().splitlines()
    assert head.split()[:3] == ["size", "tile", "overlap"] and row.split()[:3] == ["64", "-", "-"]


@pytest.mark.parametrize(
    ("options", "code"), [(["nearest"], 2), (["spandrel:none.pth"], 69), (["lanczos", "--scale", "9"], 2), ([], 2)]
)
def test_what_a_user_can_get_wrong(run: Callable[..., Any], options: list[str], code: int) -> None:
    done = run("profile", *options)
    assert done.returncode == code
    assert done.stderr.count(b"error:") == done.stderr.count(b"hint:") == 1
