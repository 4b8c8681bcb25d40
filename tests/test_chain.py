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
from PIL import Image, ImageCms, ImageOps

from imgedit import codec, engine
from imgedit.frame import Frame

ROOT = Path(__file__).parents[1]
IMGEDIT = f"{shlex.quote(sys.executable)} -m imgedit"
STEPS = ["detect-text", "mask --dilate 3", "erase", "upscale --scale 2", "match-hist"]
YAML = "steps: [detect-text, mask: {dilate: 3}, erase, upscale: {scale: 2}, match-hist]"


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


#: either side of a date, so that three letters in the middle of it are left
SIDES = ((52, 65, 71, 30), (172, 65, 77, 30))


def half_masked() -> Frame:
    photo = sample.photos(["motorcycle_left"])["motorcycle_left"][100:260, 100:400]
    style = sample.Style(30, (255, 140, 0), place=(0.5, 0.5))
    return Frame(sample.stamp(photo, "2019-07-14", seed=1, style=style)[0])


def test_the_loop_is_one_in_shell_yaml_and_python(tmp_path: Path) -> None:
    frame = half_masked()
    name = save(tmp_path, "rgb", frame.pixels)
    rects = " ".join(f"--rect {','.join(map(str, rect))}" for rect in SIDES)
    a = piped(["detect-text", f"mask {rects}", "erase --until-clean 3"], name, tmp_path)
    listed = [list(rect) for rect in SIDES]
    b = filed(f"steps: [loop: {{rounds: 3, steps: [detect-text, mask: {{rect: {listed}}}, erase]}}]", name, tmp_path)
    assert_same(a, b)
    calls = [engine.call("detect-text"), engine.call("mask", rect=SIDES), engine.call("erase", until_clean=3)]
    assert_same(a, engine.Engine(calls).run(frame))
    rounds = [step for step in a.sidecar.steps if step.stage == "erase"]
    assert len(rounds) > 1 and rounds[0].notes["remains"] and not rounds[-1].notes["remains"]
    assert all(step.outside == {"outside_changed": 0, "outside_max": 0} for step in rounds)
    assert a.mask is not None and np.array_equal(a.pixels[a.mask == 0], frame.pixels[a.mask == 0])


def test_a_loop_that_ends_too_soon_is_a_verdict_and_the_batch_goes_on(tmp_path: Path) -> None:
    frame = half_masked()
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    for name, rects in (("a", SIDES), ("b", ((52, 65, 197, 30),))):
        masked = engine.Engine([engine.call("mask", rect=rects)]).run(frame)
        codec.write_file(masked, tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:500])
    result = shell(f"{IMGEDIT} erase in -o out --until-clean 1 --keep-going", tmp_path)
    assert result.returncode == 3 and b"text remains after 1 round" in result.stderr and b"c.png" in result.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("?.png")) == ["b.png"]
    result = shell(f"{IMGEDIT} erase in/a.png in/b.png --json --until-clean 1", tmp_path)
    assert result.returncode == 1, result.stderr
    refused, clean = (json.loads(line) for line in result.stdout.splitlines())
    assert "text-remains" in [finding["code"] for finding in refused["findings"]]
    assert "text-remains" not in [finding["code"] for finding in clean["findings"]]


def noise(path: Path, rows: int, columns: int) -> str:
    return save(path, "rgb", np.random.default_rng(1).integers(0, 256, (rows, columns, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (33, 47)], ids=str)
def test_pipe_equals_pipeline_on_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    name = noise(tmp_path, *size)
    assert_same(piped(STEPS, name, tmp_path), filed(YAML, name, tmp_path))


@pytest.mark.parametrize(
    ("size", "rect"),
    [((1, 4000), "1000,0,20,1"), ((4000, 1), "0,-30,1,20"), ((2, 3), "1,0,1,1"), ((33, 47), "5,4,9,7")],
    ids=str,
)
def test_edits_on_odd_sizes(size: tuple[int, int], rect: str, tmp_path: Path) -> None:
    name = noise(tmp_path, *size)
    steps = [f"mask --rect={rect}", "erase --force", "upscale --scale 1.5", "match-hist"]
    a = piped(steps, name, tmp_path)
    yaml = f"steps: [mask: {{rect: [{rect}]}}, erase: {{force: true}}, upscale: {{scale: 1.5}}, match-hist]"
    assert_same(a, filed(yaml, name, tmp_path))
    erase = a.sidecar.steps[1]
    assert erase.source != erase.result and erase.outside == {"outside_changed": 0, "outside_max": 0}
    assert a.pixels.shape == (round(1.5 * size[0]), round(1.5 * size[1]), 3)
    assert erase.notes["holes"] == 1 and a.planes["hint"].min() == 0


def test_one_pixel(tmp_path: Path) -> None:
    """It can be masked, enlarged and matched; there is nothing to fill it from, and both ways say so."""
    name = noise(tmp_path, 1, 1)
    a = piped(["mask --rect 0,0,1,1", "upscale --scale 8", "match-hist --strength 0.5"], name, tmp_path)
    yaml = "steps: [mask: {rect: [0, 0, 1, 1]}, upscale: {scale: 8}, match-hist: {strength: 0.5}]"
    assert_same(a, filed(yaml, name, tmp_path))
    before = codec.read_file(tmp_path / name, codec.Limits())
    assert a.pixels.shape == (8, 8, 3) and a.mask is not None and a.mask.min() == 255
    assert (a.pixels == before.pixels).all()
    for options, yaml_options, code in (("", "{}", 1), (" --force", "{force: true}", 65)):
        (tmp_path / "p.yaml").write_text(f"steps: [mask: {{rect: [0, 0, 1, 1]}}, erase: {yaml_options}]")
        for command in (
            f"{IMGEDIT} mask {name} --rect 0,0,1,1 | {IMGEDIT} erase{options} -o no.png",
            f"{IMGEDIT} run p.yaml {name} -o no.png",
        ):
            result = shell(command, tmp_path)
            assert result.returncode == code and b"hint: " in result.stderr, (command, result.stderr)
    assert not list(tmp_path.glob("no*"))


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


def edited_as_files(name: str, rect: str, tmp_path: Path) -> tuple[Frame, Frame, Frame]:
    """Mask, erase and upscale, each from file to file; return what was masked, erased and enlarged."""
    steps = (f"mask {name} --rect={rect} -o m.png", "erase m.png -o e.png", "upscale e.png --scale 2 -o u.png")
    for step in steps:
        result = shell(f"{IMGEDIT} {step}", tmp_path)
        assert result.returncode == 0, result.stderr.decode()
    masked, erased, larger = (codec.read_file(tmp_path / f"{each}.png", codec.Limits()) for each in "meu")
    assert masked.mask is not None and erased.mask is not None and larger.mask is not None
    assert np.array_equal(masked.mask, erased.mask) and larger.mask.shape == larger.pixels.shape[:2]
    outside = masked.mask == 0
    assert np.array_equal(masked.pixels[outside], erased.pixels[outside])
    assert not np.array_equal(masked.pixels, erased.pixels)
    assert [s.stage for s in larger.sidecar.steps] == ["mask", "erase", "upscale"]
    return masked, erased, larger


def test_a_turned_jpeg_is_masked_and_erased_upright(tmp_path: Path) -> None:
    photo = sample.photos(["coffee"])["coffee"][80:240, 100:340]
    name = save(tmp_path, "exif", photo)
    masked, _, larger = edited_as_files(name, "-60,-30,50,20", tmp_path)
    with Image.open(tmp_path / name) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert upright.shape == (240, 160, 3) and np.array_equal(masked.pixels, upright)
    assert masked.mask is not None and masked.mask[210:230, 100:150].min() == 255
    assert np.count_nonzero(masked.mask) == 20 * 50
    assert larger.pixels.shape == (480, 320, 3)
    for result in ("m.png", "e.png", "u.png", "u.mask.png"):
        with Image.open(tmp_path / result) as image:
            assert image.getexif().get(0x0112, 1) == 1, "it would be turned once more"
            assert image.size == ((320, 480) if result[0] == "u" else (160, 240))


def test_a_palette_with_transparency_keeps_it(tmp_path: Path) -> None:
    image = Image.fromarray(sample.photos(["coffee"])["coffee"][80:200, 100:260]).quantize(32)
    image.save(tmp_path / "in.png", transparency=bytes([0, 90, 200] + [255] * 29))
    with Image.open(tmp_path / "in.png") as stored:
        rgba = np.asarray(stored.convert("RGBA"))
    assert len(np.unique(rgba[..., 3])) == 4
    masked, erased, larger = edited_as_files("in.png", "30,40,50,20", tmp_path)
    assert np.array_equal(masked.pixels, rgba[..., :3])
    for frame in (masked, erased):
        assert frame.alpha is not None and np.array_equal(frame.alpha, rgba[..., 3])
    assert larger.alpha is not None and larger.alpha.shape == (240, 320)
    with Image.open(tmp_path / "u.png") as result:
        assert result.mode == "RGBA" and result.size == (320, 240)


def test_edits_of_a_folder_keep_going(tmp_path: Path) -> None:
    for folder in ("in", "out", "stopped"):
        (tmp_path / folder).mkdir()
    for i, size in enumerate([(90, 70), (90, 70), (12, 9), (90, 70)]):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / "in" / f"{i}.png")
    (tmp_path / "in" / "1.png").write_bytes((tmp_path / "in" / "0.png").read_bytes()[:900])
    (tmp_path / "p.yaml").write_text("steps: [mask: {rect: [30, 30, 20, 10]}, erase]")
    stopped = shell(f"{IMGEDIT} run p.yaml in -o stopped", tmp_path)
    assert stopped.returncode == 65 and b"1.png" in stopped.stderr
    assert sorted(p.name for p in (tmp_path / "stopped").glob("*.json")) == ["0.png.json"]
    result = shell(f"{IMGEDIT} run p.yaml in -o out --keep-going", tmp_path)
    assert result.returncode == 3, result.stderr
    assert b"1.png" in result.stderr and b"2.png" in result.stderr and b"2 of 4" in result.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("[0-9].png")) == ["0.png", "3.png"]
    for name in ("0", "3"):
        before, after = (codec.read_file(tmp_path / f / f"{name}.png", codec.Limits()) for f in ("in", "out"))
        assert after.mask is not None and np.array_equal(before.pixels[after.mask == 0], after.pixels[after.mask == 0])
        assert after.sidecar.steps[-1].outside == {"outside_changed": 0, "outside_max": 0}
        assert not np.array_equal(before.pixels, after.pixels)


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
    photo = sample.photos(["brick"])["brick"]
    for i in range(6):
        Image.fromarray(photo[20 * i :][:300, :300]).save(tmp_path / f"{i}.png")
    steps = ["mask . --rect 1,1,20,20", "erase", "match-hist"]
    command = " | ".join(f"{IMGEDIT} {step}" for step in steps) + " | head -c 100 | wc -c; echo ${PIPESTATUS[@]}"
    result = shell(command, tmp_path)
    assert result.stderr == b""
    assert result.stdout.split()[0] == b"100"
    assert set(result.stdout.split()[1:4]) <= {b"141", b"0"} and b"141" in result.stdout.split()[1:4]
