"""Who may import whom: the table of the house against the imports in the source."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import imgedit

ROOT = Path(imgedit.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py"))

#: room → (what of imgedit it may import anywhere, what else at module top besides the standard library)
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "frame": ({"errors", "spill", "strict_json"}, {"numpy"}),
    "jobs": ({"frame"}, set()),
    "param": ({"errors", "frame"}, set()),
    "describe": ({"errors", "frame", "registry", "ops", ""}, {"numpy"}),
    "promises": ({"errors", "frame", "stage"}, {"numpy"}),
    "strict_json": ({"errors"}, set()),
    "stage": ({"errors", "frame", "param"}, set()),
    "ops": ({"errors", "spill", "ops"}, {"numpy", "cv2"}),
    "spill": ({"errors"}, {"numpy"}),
    "codec": ({"errors", "frame", "spill", "codec"}, {"numpy", "PIL", "isal"}),
    "stages": ({"errors", "frame", "jobs", "stage", "ops"}, set()),
    "models": ({"errors", "models"}, set()),
    "backends": (
        {"errors", "frame", "jobs", "spill", "strict_json", "ops", "models", "backends"},
        {"numpy"},
    ),
    "calibration": ({"errors", "frame", "jobs", "ops", "backends"}, {"numpy"}),
    "registry": ({"errors", "stage"}, set()),
    "references": ({"errors", "frame", "param", "codec", "describe", ""}, set()),
    "together": ({"errors", "frame", "jobs"}, set()),
    "loop": ({"errors", "frame", "strict_json", "stage", "registry", ""}, set()),
    "engine": (
        {
            *("errors", "frame", "jobs", "param", "strict_json", "stage", "promises", "describe", "registry", "codec"),
            *("loop", "references", "together", ""),
        },
        {"numpy"},
    ),
    "history": (
        {"errors", "frame", "param", "engine", "registry", "promises", "references", "codec", ""},
        {"numpy"},
    ),
    "pipeline": ({"errors", "engine", "references", "registry", "stage", ""}, {"yaml"}),
    "cli": (
        {
            *("errors", "frame", "jobs", "stage", "registry", "codec", "describe", "engine", "models", "pipeline"),
            "calibration",
            *("param", "history", "references", "spill", "together", "cli", ""),
        },
        {"click"},
    ),
    "__main__": ({"", "cli"}, set()),
    "__init__": (set(), set()),
}
#: only these may be imported at the top of a stage; ops come inside the function
STAGE_TOP = {"errors", "frame", "jobs", "stage"}
HEAVY = {"torch", "diffusers", "transformers", "onnxruntime", "rapidocr", "spandrel"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (dotted name, whether at module top and for real) of all imports in a file."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, top: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = node.module in ("imgedit", "imgedit.ops", "imgedit.cli", "imgedit.backends")
            names = [f"{node.module}.{alias.name}" if inside else str(node.module) for alias in node.names]
            found.extend((name, top) for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child, top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(path.read_text()), True)
    return found


def room(dotted: str) -> str:
    part = dotted.removeprefix("imgedit").removeprefix(".").split(".")[0]
    return "" if part.startswith("__") else part


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    relative = path.relative_to(ROOT)
    name = relative.parts[0].removesuffix(".py")
    allowed, top_allowed = TABLE[name]
    for dotted, top in imports(path):
        base = dotted.split(".")[0]
        if base == "imgedit":
            assert room(dotted) in allowed, f"{relative} imports {dotted}"
            if name == "stages" and top:
                assert room(dotted) in STAGE_TOP, f"{relative} imports {dotted} at its top"
        elif top and base not in sys.stdlib_module_names:
            assert base in top_allowed, f"{relative} imports {base} at its top"
        if base in HEAVY:
            assert name == "backends", f"{relative} names {base}"
        if base in ("click", "rich"):
            assert name == "cli", f"{relative} names {base}"


def test_the_table_covers_every_room() -> None:
    rooms = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in FILES}
    assert rooms == set(TABLE)
