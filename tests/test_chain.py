"""The pipe, the pipeline file and single commands over files give the same pixels, on every kind of picture."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample
from PIL import Image, ImageCms

from imgedit import codec
from imgedit.frame import Frame

ROOT = Path(__file__).parents[1]
IMGEDIT = f"{shlex.quote(sys.executable)} -m imgedit"
STEPS = ["detect-text", "mask --dilate 3", "erase", "upscale --scale 2", "match-hist"]
YAML = "steps: [detect-text, mask: {dilate: 3}, erase, upscale: {scale: 2}, match-hist]"
RECT = ["mask --rect 5,4,9,7", *STEPS[2:]]
RECT_YAML = "steps: [mask: {rect: [5, 4, 9, 7]}, erase, upscale: {scale: 2}, match-hist]"


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=cwd, env=env, capture_output=True, timeout=120)


def piped(steps: list[str], source: str, cwd: Path) -> Frame:
    first, *rest = steps
    command, _, options = first.partition(" ")
    commands = [f"{IMGEDIT} {command} {source} {options}", *(f"{IMGEDIT} {step}" for step in rest)]
    result = shell(" | ".join(commands), cwd)
    assert result.returncode == 0, result.stderr.decode()
    (frame,) = codec.read_stream(io.BytesIO(result.stdout), codec.Limits())
    return frame


def filed(yaml: str, source: str, cwd: Path) -> Frame:
    (cwd / "p.yaml").write_text(yaml)
    result = shell(f"{IMGEDIT} run p.yaml {source} -o out.png", cwd)
    assert result.returncode == 0, result.stderr.decode()
    return codec.read_file(cwd / "out.png", codec.Limits())


def assert_same(a: Frame, b: Frame) -> None:
    assert np.array_equal(a.pixels, b.pixels) and a.pixels.dtype == b.pixels.dtype
    assert (a.alpha is None) == (b.alpha is None) and (a.alpha is None or np.array_equal(a.alpha, b.alpha))
    assert a.mask is not None and np.array_equal(a.mask, b.mask)
    assert a.icc == b.icc and a.digest == b.digest
    assert [s.stage for s in a.sidecar.steps] == [s.stage for s in b.sidecar.steps]
    assert [s.result for s in a.sidecar.steps] == [s.result for s in b.sidecar.steps]
    assert a.sidecar.tone == b.sidecar.tone and a.sidecar.latents == b.sidecar.latents


def save(path: Path, kind: str, pixels: np.ndarray[Any, Any]) -> str:
    """Write *pixels* (RGB uint8) as a picture of the given kind; return its name."""
    image = Image.fromarray(pixels)
    options: dict[str, Any] = {}
    name = "in.png"
    if kind == "rgba":
        alpha = np.linspace(0, 255, pixels.shape[0] * pixels.shape[1]).reshape(pixels.shape[:2]).astype(np.uint8)
        image.putalpha(Image.fromarray(alpha))
    elif kind == "grey":
        image = image.convert("L")
    elif kind == "palette":
        image = image.quantize(64)
    elif kind == "icc":
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    elif kind == "exif":
        exif = image.getexif()
        exif[0x0112] = 6
        name, options = "in.jpg", {"exif": exif, "quality": 95}
    elif kind == "rgb16":
        wide = pixels.astype(np.uint16) * 257 + np.arange(pixels.shape[1], dtype=np.uint16)[None, :, None] % 200
        codec.write_file(Frame(np.minimum(wide, 65535).astype(np.uint16)), path / name)
        (path / (name + ".json")).unlink()
        return name
    elif kind == "grey16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    image.save(path / name, **options)
    return name


@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey", "palette", "icc", "exif", "rgb16", "grey16"])
def test_pipe_equals_pipeline_on_every_kind(kind: str, tmp_path: Path) -> None:
    photo = sample.photos(["coffee"])["coffee"][80:240, 100:340]
    stamped, _ = sample.stamp(photo, "2019-07-14", kind="date", seed=1)
    name = save(tmp_path, kind, stamped)
    a = piped(STEPS, name, tmp_path)
    assert_same(a, filed(YAML, name, tmp_path))
    assert a.sidecar.regions, "the stamp was not found: the chain has nothing to prove"
    erase = next(step for step in a.sidecar.steps if step.stage == "erase")
    assert erase.outside == {"outside_changed": 0, "outside_max": 0} and erase.source != erase.result
    if kind == "icc":
        assert a.icc
    if kind.endswith("16"):
        assert a.pixels.dtype == np.uint16
    if kind == "exif":
        assert a.pixels.shape[:2] == (480, 320)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (33, 47)], ids=str)
def test_pipe_equals_pipeline_on_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    name = save(tmp_path, "rgb", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    assert_same(piped(STEPS, name, tmp_path), filed(YAML, name, tmp_path))
    if min(size) > 4:
        a = piped(RECT, name, tmp_path)
        assert_same(a, filed(RECT_YAML, name, tmp_path))
        assert a.sidecar.steps[1].source != a.sidecar.steps[1].result


def test_edits_keep_everything_outside_bit_for_bit(tmp_path: Path, run: Callable[..., Any]) -> None:
    photo = sample.photos(["coffee"])["coffee"][80:240, 100:340]
    stamped, _ = sample.stamp(photo, "2019-07-14", kind="date", seed=1)
    for kind in ("rgba", "rgb16", "icc"):
        name = save(tmp_path, kind, stamped)
        before = codec.read_file(tmp_path / name, codec.Limits())
        shell(f"{IMGEDIT} mask {name} --rect -120,-40,110,30 --feather 3 | {IMGEDIT} erase -o out.png", tmp_path)
        after = codec.read_file(tmp_path / "out.png", codec.Limits())
        assert after.mask is not None
        outside = after.mask == 0
        assert np.array_equal(before.pixels[outside], after.pixels[outside])
        assert not np.array_equal(before.pixels, after.pixels)
        assert before.icc == after.icc
        assert before.alpha is None or np.array_equal(before.alpha, after.alpha)
        record = json.loads((tmp_path / "out.png.json").read_text())["steps"][-1]
        assert record["outside"] == {"outside_changed": 0, "outside_max": 0}


def test_many_pictures_through_one_pipe_keep_their_order(tmp_path: Path) -> None:
    for i in range(7):
        Image.new("RGB", (8 + i, 5), (30 * i, 9, 9)).save(tmp_path / f"{i}.png")
    (tmp_path / "out").mkdir()
    result = shell(
        f"{IMGEDIT} mask '[0-9].png' --rect 1,1,2,2 | {IMGEDIT} erase --force | {IMGEDIT} info --json", tmp_path
    )
    assert result.returncode == 0, result.stderr.decode()
    columns = [json.loads(line)["image"]["columns"] for line in result.stdout.splitlines()]
    assert columns == [8 + i for i in range(7)]
    result = shell(f"{IMGEDIT} mask . --rect 1,1,2,2 | {IMGEDIT} erase --force -o out", tmp_path)
    assert sorted(p.name for p in (tmp_path / "out").glob("*[0-9].png")) == [f"{i:06}.png" for i in range(1, 8)]


def test_a_closed_pipe_ends_all_quietly(tmp_path: Path) -> None:
    for i in range(6):
        Image.effect_noise((300, 300), 60).convert("RGB").save(tmp_path / f"{i}.png")
    steps = ["mask . --rect 1,1,20,20", "erase", "match-hist"]
    command = " | ".join(f"{IMGEDIT} {step}" for step in steps) + " | head -c 100 | wc -c; echo ${PIPESTATUS[@]}"
    result = shell(command, tmp_path)
    assert result.stderr == b""
    assert result.stdout.split()[0] == b"100"
    assert set(result.stdout.split()[1:4]) <= {b"141", b"0"} and b"141" in result.stdout.split()[1:4]
