"""pipelines/batch.mk: a folder by make, in parallel, interrupted and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sample
from conftest import ROOT
from PIL import Image

from imgedit import codec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a Makefile as users have it, and an empty folder of pictures."""
    (tmp_path / "in").mkdir()
    (tmp_path / "p.yaml").write_text("steps: [upscale: {scale: 1.5}]\n")
    lines = [
        f"IMGEDIT := PYTHONPATH={ROOT} {sys.executable} -m imgedit",
        "IMGEDIT_PIPELINE := p.yaml",
        f"include {ROOT}/pipelines/batch.mk",
    ]
    (tmp_path / "Makefile").write_text("\n".join(lines) + "\n")
    return tmp_path


def picture() -> Image.Image:
    return Image.fromarray(sample.photos(["coffee"])["coffee"][:120, :160])


def make(folder: Path, *options: str) -> int:
    """Run make; return how many pictures it did."""
    done = subprocess.run(["make", "-j4", *options, "imgedit"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.count("imgedit run")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["photo.jpg", "photo.JPG"])
def test_what_is_done_is_not_done_again(name: str, folder: Path) -> None:
    picture().save(folder / "in" / name, "JPEG")
    picture().save(folder / "in" / "b.png")
    assert make(folder) == 2
    assert names(folder / "out") == ["b.png", "b.png.json", "photo.png", "photo.png.json"]
    assert make(folder) == 0
    (folder / "out" / "photo.png.json").unlink()  # an interruption before the record was written
    assert make(folder) == 1
    os.utime(folder / "p.yaml", (2e9, 2e9))
    assert make(folder) == 2


def test_names_that_make_cannot_tell_apart_are_refused(folder: Path) -> None:
    def refused() -> str:
        done = subprocess.run(["make", "imgedit"], cwd=folder, capture_output=True, text=True)
        assert done.returncode != 0 and not (folder / "out").exists()
        return done.stderr

    picture().save(folder / "in" / "b.png")
    (folder / "in" / "b.jpg").write_bytes(b"")
    assert "rename one of them" in refused()
    (folder / "in" / "b.jpg").rename(folder / "in" / "b c.jpg")
    assert "blanks in names" in refused()


def test_planes_beside_their_picture_are_no_pictures(folder: Path) -> None:
    (folder / "p.yaml").write_text("steps: [erase]\n")
    mask = Image.new("L", (160, 120))
    mask.paste(255, (40, 40, 60, 50))
    for name, beside in (("a.png", "a.mask.png"), ("b.png", "b.mask.png"), ("c.PNG", "c.mask.png")):
        picture().save(folder / "in" / name)
        mask.save(folder / "in" / beside)
    mask.save(folder / "in" / "a.hint.png")
    picture().save(folder / "in" / "holiday.2019.png")
    Image.new("L", (160, 120)).save(folder / "in" / "holiday.2019.mask.png")
    assert make(folder, "-k") == 4
    assert [name for name in names(folder / "out") if name.endswith(".json")] == [
        f"{stem}.png.json" for stem in ("a", "b", "c", "holiday.2019")
    ]
    # and each was read with its mask
    steps = json.loads((folder / "out" / "b.png.json").read_text())["steps"]
    assert steps[-1]["stage"] == "erase" and steps[-1]["notes"]["holes"] == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_interrupted_goes_on(how: signal.Signals, folder: Path) -> None:
    for i in range(8):
        picture().save(folder / "in" / f"{i}.png")
    # a group of its own, as a shell gives it: Ctrl-C reaches make and all that it started
    process = subprocess.Popen(
        ["make", "-j2", "imgedit"], cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    # with two at a time, of three records one is of a recipe that has ended
    while len(list(folder.glob("out/*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    done = {path: path.stat().st_mtime_ns for path in folder.glob("out/*.json")}
    assert 1 <= len(done) < 8
    for path in done:
        json.loads(path.read_bytes())
        codec.read_file(path.with_suffix(""), codec.Limits())
    assert make(folder) == 8 - len(done)
    assert names(folder / "out") == sorted(f"{i}.png{end}" for i in range(8) for end in ("", ".json"))
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
    assert make(folder) == 0


def test_a_folder_without_pictures_is_no_success(folder: Path) -> None:
    done = subprocess.run(["make", "imgedit", "IMGEDIT_IN=typo"], cwd=folder, capture_output=True, text=True)
    assert done.returncode != 0 and "no pictures in typo" in done.stderr
