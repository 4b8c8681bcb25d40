"""Every command in the README does what it says, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sample
from conftest import ROOT
from PIL import Image

README = (ROOT / "README.md").read_text()


def test_commands_run(tmp_path: Path) -> None:
    photo = sample.photos(["coffee"])["coffee"]
    stamped, _ = sample.stamp(photo, "2019-07-14", kind="date", seed=1)
    Image.fromarray(stamped).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(photo).save(tmp_path / "golden.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "cleaned").mkdir()
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "photos" / "one.jpg")
    shutil.copy(tmp_path / "golden.png", tmp_path / "photos" / "two.png")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    (tmp_path / "steps.yaml").write_text(yaml)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "imgedit"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m imgedit "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    commands = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
    commands += re.findall(r"`(imgedit run steps.yaml[^`]*)`", README)
    assert len(commands) >= 10
    for command in commands:
        result = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, env=env, capture_output=True)
        assert result.returncode == 0, f"{command}\n{result.stderr.decode()}"
    for name in ("repaired.png", "clean.png", "difference.png", "cleaned/one.png", "cleaned/two.png"):
        assert (tmp_path / name).stat().st_size > 1000
    with Image.open(tmp_path / "repaired.png") as repaired:
        assert repaired.size == (2 * photo.shape[1], 2 * photo.shape[0])


def test_exit_codes_are_those_of_the_errors() -> None:
    from imgedit import errors

    listed = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.M) for n in row.split(",")}
    assert listed == {0} | {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


@pytest.mark.parametrize("name", ["photo.jpg", "photo.JPG"])
def test_batch_makefile_is_restartable(name: str, tmp_path: Path) -> None:
    photo = sample.photos(["coffee"])["coffee"][:120, :160]
    (tmp_path / "in").mkdir()
    Image.fromarray(photo).save(tmp_path / "in" / name, "JPEG")
    Image.fromarray(photo).save(tmp_path / "in" / "b.png")
    (tmp_path / "p.yaml").write_text("steps: [upscale: {scale: 1.5}]\n")
    lines = [
        f"IMGEDIT := PYTHONPATH={ROOT} {sys.executable} -m imgedit",
        "IMGEDIT_PIPELINE := p.yaml",
        f"include {ROOT}/pipelines/batch.mk",
    ]
    (tmp_path / "Makefile").write_text("\n".join(lines) + "\n")

    def make() -> str:
        done = subprocess.run(["make", "-j4", "imgedit"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    assert make().count("imgedit run") == 2
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["b.png.json", "photo.png.json"]
    assert "imgedit run" not in make()
    (tmp_path / "out" / "photo.png.json").unlink()  # an interruption before the record was written
    assert make().count("imgedit run") == 1
    os.utime(tmp_path / "p.yaml", (2e9, 2e9))
    assert make().count("imgedit run") == 2
    (tmp_path / "in" / "b.jpg").write_bytes(b"")
    clash = subprocess.run(["make", "imgedit"], cwd=tmp_path, capture_output=True, text=True)
    assert clash.returncode != 0 and "rename one of them" in clash.stderr
