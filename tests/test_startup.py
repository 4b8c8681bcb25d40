"""Help and version need nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgedit import registry

ROOT = Path(__file__).parents[1]
POISON = ROOT / "tests" / "poison"
OWN = ["backends", "calibrate", "calibrate-prompts", "completion", "info", "models", "replay", "run"]
COMMANDS = [*registry.stage_names(), *OWN]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], *([c, "--help"] for c in COMMANDS)], ids=" ".join)
def test_help_works_with_every_heavy_package_poisoned(run: Callable[..., Any], arguments: list[str]) -> None:
    result = run(*arguments, env={"PYTHONPATH": f"{POISON}{os.pathsep}{ROOT}"})
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.strip()
    assert not result.stderr


def test_poison_works(run: Callable[..., Any]) -> None:
    """The poisoned packages are really the ones that get imported."""
    env = {**os.environ, "PYTHONPATH": str(POISON)}
    for module in sorted(p.stem for p in POISON.glob("*.py")):
        result = subprocess.run([sys.executable, "-c", f"import {module}"], env=env, capture_output=True)
        assert result.returncode == 1 and b"must not be imported" in result.stderr


def test_light_commands_do_not_import_what_they_do_not_need() -> None:
    code = (
        "import sys, imgedit.cli; print(sorted(m for m in ('numpy', 'cv2', 'PIL', 'rich', 'yaml') if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
