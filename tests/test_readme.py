"""Every command in the README does what it says, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hub
import sample
from conftest import ROOT
from PIL import Image

from imgedit.stages.inpaint import MODEL

README = (ROOT / "README.md").read_text()


def test_commands_run(tmp_path: Path, small_models: Path) -> None:
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
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}:$PYTHONPATH" exec "{sys.executable}" -m imgedit "$@"\n')
    program.chmod(0o755)
    # the model that inpaint takes unless told otherwise, as if it had been fetched
    small = small_models / "sd-inpaint"
    files = {str(path.relative_to(small)): path.read_bytes() for path in small.rglob("*") if path.is_file()}
    hub.into_cache(tmp_path / "hub", MODEL, files)
    env = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "tests" / "operators"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    commands = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
    commands += re.findall(r"`(imgedit run steps.yaml[^`]*)`", README)
    assert len(commands) >= 10
    for command in commands:
        result = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, env=env, capture_output=True)
        assert result.returncode == 0, f"{command}\n{result.stderr.decode()}"
    for name in (
        "repaired.png",
        "clean.png",
        "difference.png",
        "cleaned/one.png",
        "cleaned/two.png",
        "saucer.png",
        "staged.png",
    ):
        assert (tmp_path / name).stat().st_size > 1000
    with Image.open(tmp_path / "repaired.png") as repaired:
        assert repaired.size == (2 * photo.shape[1], 2 * photo.shape[0])


def test_exit_codes_are_those_of_the_errors() -> None:
    from imgedit import errors

    listed = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.M) for n in row.split(",")}
    assert listed == {0} | {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
