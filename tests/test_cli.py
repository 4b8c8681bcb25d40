"""The command line as scripts and people meet it: exit codes, streams, terminals, environment."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, picture
from PIL import Image

from imgedit import cli, codec

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(picture("rgb8", 120, 160).pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def frames(data: bytes) -> list[Any]:
    return list(codec.read_stream(io.BytesIO(data), codec.Limits()))


def terminal(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run with stdout and stderr on a terminal each; return the exit code and what they showed."""
    outs = [pty.openpty() for _ in range(2)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **(env or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "imgedit", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=outs[0][1],
        stderr=outs[1][1],
        cwd=cwd,
        env=environment,
    )
    shown = []
    for main, other in outs:
        os.close(other)
        parts = []
        while True:
            try:
                data = os.read(main, 65536)
            except OSError:  # the other end is closed: that is how a terminal says end of file
                break
            if not data:
                break
            parts.append(data)
        os.close(main)
        shown.append(b"".join(parts).decode())
    return process.wait(), shown[0], shown[1]


def test_pictures_do_not_go_to_a_terminal(photo: Path, tmp_path: Path) -> None:
    code, out, err = terminal("mask", "in.png", "--rect", "1,1,9,9", cwd=tmp_path)
    assert code == 0 and "PNG" not in out and "160×120" in out
    assert "not written" in err and "-o FILE" in err
    code, out, err = terminal("mask", "in.png", "--rect", "1,1,9,9", "-o", "-", cwd=tmp_path)
    assert code == 2 and out == "" and "hint:" in err


def test_colours_on_a_terminal_only_and_not_with_no_color(tmp_path: Path, run: Run) -> None:
    assert "\x1b[" in terminal("erase", "none.png", cwd=tmp_path)[2]
    assert "\x1b[" not in terminal("erase", "none.png", cwd=tmp_path, env={"NO_COLOR": "1"})[2]
    assert b"\x1b" not in run("erase", "none.png").stderr


def test_progress_is_for_terminals(tmp_path: Path, run: Run, photo: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(photo.read_bytes())
    (tmp_path / "out").mkdir()
    arguments = ("mask", "[0-9].png", "--rect", "1,1,9,9", "-o", "out")
    assert run(*arguments).stderr == b""
    assert "pictures" in terminal(*arguments, cwd=tmp_path)[2]
    assert terminal(*arguments, "-q", cwd=tmp_path)[2] == ""


def test_json_lines(photo: Path, run: Run) -> None:
    result = run("mask", photo, "--rect", "10,10,16,12", "--json")
    (line,) = result.stdout.splitlines()
    sidecar = json.loads(line)
    assert sidecar["schema"] == "imgedit/1"
    assert sidecar["mask"]["coverage"] > 0.009
    assert sidecar["steps"][0]["params"]["rect"] == [[10, 10, 16, 12]]


def test_a_gate_that_says_no_is_a_verdict_on_each_picture(tmp_path: Path, run: Run) -> None:
    for i in range(3):
        Image.new("RGB", (32, 32), (i * 40, 0, 0)).save(tmp_path / f"{i}.png")
    result = run("compare", "0.png", "1.png", "2.png", "--reference", "0.png", "--max", "rmse=0.05", "--json")
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 3, "the numbers of failed comparisons are wanted too"
    assert result.stderr.count(b"error: ") == 2 and b"rmse" in result.stderr
    piped = run("compare", "0.png", "1.png", "2.png", "--reference", "0.png", "--max", "rmse=0.05")
    assert piped.returncode == 1 and len(frames(piped.stdout)) == 1, "what failed does not go on through the pipe"


def test_keep_going_does_the_others_and_says_which_failed(tmp_path: Path, run: Run, photo: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    arguments = ("mask", "bad.png", "in.png", "--rect", "1,1,9,9", "-o", "out")
    stopped = run(*arguments)
    assert stopped.returncode == 65 and not list((tmp_path / "out").iterdir())
    assert b"bad.png" in stopped.stderr
    went_on = run(*arguments, "--keep-going")
    assert went_on.returncode == 3
    assert (tmp_path / "out" / "in.png").exists() and b"1 of 2" in went_on.stderr


def test_a_backend_that_breaks_its_promise_gives_70_and_no_output(tmp_path: Path, run: Run, photo: Path) -> None:
    """A plugin filler is honest in shape and dishonest in place: the stage it serves leaks through it."""
    package = tmp_path / "plugin"
    package.mkdir()
    (package / "leaky.py").write_text(
        "from typing import Annotated\n"
        "from imgedit.frame import Frame\n"
        "from imgedit.stage import stage\n"
        "@stage(needs=['mask'], keeps=['size', 'outside-mask', 'alpha'])\n"
        "def leak(frame: Frame) -> Frame:\n"
        "    '''Change a pixel outside the mask.'''\n"
        "    pixels = frame.pixels.copy()\n"
        "    pixels[0, 0, 0] ^= 1\n"
        "    return frame.replace(pixels=pixels)\n"
        "class Tall:\n"
        "    summary, requires, extra = 'Returns another size.', (), ''\n"
        "    deterministic, bit_depths = True, (8, 16)\n"
        "    def fill(self, pixels, mask, *, seed):\n"
        "        from imgedit.backends.protocols import Filled\n"
        "        return Filled(pixels[:-1], 'tall', 'by design')\n"
    )
    info = package / "leaky-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[imgedit.stages]\nleak = leaky:leak\n[imgedit.backends]\nfill.tall = leaky:Tall\n"
    )
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{package}"}
    masked = run("mask", photo, "--rect", "20,20,30,30").stdout
    for arguments in (("leak",), ("erase", "--backend", "tall")):
        result = run(*arguments, "-o", "out.png", stdin=masked, env=env)
        assert result.returncode == 70, result.stderr
        assert b"error: " in result.stderr and b"hint: " in result.stderr
        assert not (tmp_path / "out.png").exists()
        assert run(*arguments, stdin=masked, env=env).stdout == b""
    assert b"leak" in run("--help", env=env).stdout
    assert b"tall" in run("backends", env=env).stdout


def test_environment_sets_options_and_flags_win(photo: Path, run: Run) -> None:
    masked = run("mask", photo, "--rect", "30,30,20,20").stdout

    def margin(*arguments: str) -> int:
        done = run("erase", "--json", *arguments, stdin=masked, env={"IMGEDIT_ERASE_MARGIN": "21"})
        return int(json.loads(done.stdout)["steps"][-1]["params"]["margin"])

    assert margin() == 21
    assert margin("--margin", "33") == 33


def test_implicit_and_explicit_stdin(photo: Path, run: Run) -> None:
    data = photo.read_bytes()
    for arguments in (("mask", "--rect", "1,1,9,9"), ("mask", "-", "--rect", "1,1,9,9")):
        (frame,) = frames(run(*arguments, stdin=data).stdout)
        assert frame.mask is not None and np.count_nonzero(frame.mask) >= 81


def test_one_foreign_picture_through_stdin(run: Run) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((60, 40), 30).save(buffer, "JPEG")
    (frame,) = frames(run("mask", "--rect", "1,1,9,9", stdin=buffer.getvalue()).stdout)
    assert (frame.columns, frame.rows) == (60, 40) and frame.sidecar.image.mode == "L"


def test_compare_pairs_and_folders(tmp_path: Path, run: Run) -> None:
    for folder, value in (("a", 10), ("b", 11)):
        (tmp_path / folder).mkdir()
        for name in ("one", "two"):
            Image.new("RGB", (32, 32), (value,) * 3).save(tmp_path / folder / f"{name}.png")
    result = run("compare", "a/one.png", "b/one.png", "--metric", "psnr")
    assert result.returncode == 0 and b"48.13" in result.stdout
    assert run("compare", "a", "b", "--json").stdout.count(b"\n") == 2
    assert run("compare", "a", "b", "--max", "rmse=0.001").returncode == 1
    (tmp_path / "b" / "two.png").unlink()
    assert run("compare", "a", "b").returncode == 74
    result = run("compare", "a/one.png", "b/one.png", "-o", "difference.png")
    with Image.open(tmp_path / "difference.png") as picture_:
        assert picture_.mode == "L" and picture_.getextrema()[0] > 0


def test_dry_run_prints_a_pipeline_that_runs(photo: Path, run: Run, tmp_path: Path) -> None:
    plan = run("run", "upscale-photo", photo, "--dry-run", "--set", "upscale.scale=1.5").stdout
    (tmp_path / "plan.yaml").write_bytes(plan)
    assert b"scale: 1.5" in plan and b"# " in plan
    assert run("run", "plan.yaml", photo, "-o", "out.png").returncode == 0
    with Image.open(tmp_path / "out.png") as enlarged:
        assert enlarged.size == (240, 180)


def test_backends_and_completion(run: Run) -> None:
    rows = json.loads(run("backends", "--json").stdout)["backends"]
    names = {f"{row['kind']}:{row['name']}" for row in rows}
    assert {"fill:auto", "fill:harmonic", "detect:rapidocr", "detect:opencv", "upscale:lanczos"} <= names
    assert all(row["here"] or row["hint"] for row in rows)
    for shell in ("bash", "zsh", "fish"):
        assert b"_IMGEDIT_COMPLETE" in run("completion", shell).stdout
    completed = run(env={"_IMGEDIT_COMPLETE": "bash_complete", "COMP_WORDS": "imgedit era", "COMP_CWORD": "1"})
    assert b"erase" in completed.stdout


def test_a_missing_package_is_one_line_with_what_to_type(photo: Path, run: Run, tmp_path: Path) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    code = "import sys; sys.modules['rapidocr'] = None\nimport importlib.util as u; real = u.find_spec\n"
    code += "u.find_spec = lambda name, *a: None if name == 'rapidocr' else real(name, *a)\n"
    (poison / "sitecustomize.py").write_text(code)
    result = run("detect-text", photo, env={"PYTHONPATH": f"{poison}{os.pathsep}{ROOT}"})
    assert result.returncode == 69
    assert b"rapidocr" in result.stderr and b"pip install" in result.stderr and b"Traceback" not in result.stderr


def test_inpaint_without_a_model_says_what_to_type(photo: Path, run: Run) -> None:
    masked = run("mask", photo, "--rect", "30,30,20,20").stdout
    result = run("inpaint", "--prompt", "a wall", "--offline", "--cache-dir", "none", stdin=masked)
    assert result.returncode == 69 and result.stdout == b""
    assert b"hint: " in result.stderr and b"Traceback" not in result.stderr


def test_info_of_a_result(photo: Path, run: Run) -> None:
    masked = run("mask", photo, "--rect", "30,30,20,20").stdout
    erased = run("erase", stdin=masked).stdout
    text = run("info", stdin=erased).stdout.decode()
    assert "160×120" in text and "erase (auto)" in text and "0 pixels changed" in text


def test_a_folder_keeps_pictures_whose_names_only_look_like_planes(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("v1.png", "v1.2.png", "photo.png", "photo.small.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / "in" / name)
    assert run("mask", "in", "--rect", "1,1,3,3", "-o", "out").returncode == 2, "photo.small.png could be a plane"
    (tmp_path / "in" / "photo.small.png").unlink()
    assert run("mask", "in", "--rect", "1,1,3,3", "-o", "out").returncode == 0
    assert {p.name for p in (tmp_path / "out").glob("*.json")} == {"v1.png.json", "v1.2.png.json", "photo.png.json"}
    names = [p.name for p in (tmp_path / "out").glob("*.png")]
    result = run("info", *(f"out/{name}" for name in names), "--json")
    assert len(result.stdout.splitlines()) == 3, "planes given beside their picture are not pictures"


def test_two_sources_never_write_one_file(tmp_path: Path, run: Run) -> None:
    (tmp_path / "out").mkdir()
    for name in ("a.png", "a.mask.png", "000001.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    (tmp_path / "b").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "b" / "a.mask.jpg")
    assert run("mask", "a.png", "b/a.mask.jpg", "--rect", "1,1,3,3", "-o", "out").returncode == 2
    data = (tmp_path / "a.png").read_bytes()
    result = run("mask", "-", "000001.png", "--rect", "1,1,3,3", "-o", "out", stdin=data)
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("0*.json")) == ["000001.png.json", "000002.png.json"]


def test_closed_standard_streams(tmp_path: Path, photo: Path) -> None:
    program = f"PYTHONPATH={ROOT} {sys.executable} -m imgedit"
    for command, code in [
        (f"{program} mask in.png --rect 1,1,3,3 >&-", 74),
        (f"{program} mask --rect 1,1,3,3 <&-", 74),
        (f"{program} mask in.png --rect 1,1,3,3 -o out.png <&- >&- 2>&-", 0),
        (f"{program} info in.png 2>&-", 0),
    ]:
        result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True)
        assert result.returncode == code and b"Traceback" not in result.stderr, (command, result.stderr)


def test_a_broken_plugin_hides_nothing_else(tmp_path: Path, run: Run) -> None:
    info = tmp_path / "plugin" / "broken-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[imgedit.stages]\nsick = no_such:x\n[imgedit.backends]\nfill.sick = no_such:x\n"
    )
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'plugin'}"}
    assert b"erase" in run("--help", env=env).stdout
    listed = run("backends", env=env)
    assert listed.returncode == 0 and b"harmonic" in listed.stdout and b"could not be loaded" in listed.stdout
    assert run("sick", env=env).returncode == 69


def test_keep_going_covers_what_is_not_there(tmp_path: Path, run: Run, photo: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    result = run("mask", "empty", "none*.png", "none.png", "in.png", "--rect", "1,1,3,3", "-o", "out", "--keep-going")
    assert result.returncode == 3 and b"3 of 4" in result.stderr
    result = run("info", "none.png", "in.png", "--keep-going")
    assert result.returncode == 3 and b"160" in result.stdout


def test_escapes_in_a_sidecar_do_not_reach_the_terminal(tmp_path: Path, run: Run, photo: Path) -> None:
    assert run("detect-text", "in.png", "--backend", "opencv", "-o", "x.png").returncode == 0
    path = tmp_path / "x.png.json"
    data = json.loads(path.read_text())
    data["metrics"] = {"\x1b]0;bad\x07": {"who\nle": 1.0}}
    data["image"]["source"] = "\x1b[31mred"
    path.write_text(json.dumps(data))
    shown = run("info", "x.png").stdout
    assert b"\x1b" not in shown and b"\x07" not in shown and b"read as" in shown


def test_errors_name_a_picture_once(tmp_path: Path, run: Run, photo: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    line = run("info", "in.png", "bad.png").stderr.splitlines()[0]
    assert line.count(b"bad.png") == 1


def test_folders_are_paired_without_losing_a_picture(tmp_path: Path, run: Run) -> None:
    for folder in ("a", "b", "empty", "other"):
        (tmp_path / folder).mkdir()
    for folder in ("a", "b"):
        Image.new("RGB", (16, 16)).save(tmp_path / folder / "x.png")
    assert run("compare", "a", "b", "--max", "rmse=0").returncode == 0
    assert run("compare", "empty", "other", "--max", "rmse=0").returncode == 74, "nothing compared is no pass"
    assert run("compare", "a/x.png", "nowhere").returncode == 74
    assert run("compare", "a", "b", "-o", "b").returncode == 2, "the difference would replace the reference"
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / "x.jpg")
    Image.new("RGB", (16, 16)).save(tmp_path / "b" / "x.jpg")
    assert run("compare", "a", "b", "--max", "rmse=0").returncode == 2


def test_metrics_do_not_outlive_their_pixels(photo: Path, run: Run) -> None:
    compared = run("compare", photo, "--reference", photo).stdout
    assert json.loads(run("info", "--json", stdin=compared).stdout)["metrics"]
    enlarged = run("upscale", stdin=compared).stdout
    assert not json.loads(run("info", "--json", stdin=enlarged).stdout)["metrics"]


def test_every_option_can_be_set_by_environment(photo: Path, run: Run) -> None:
    other = photo.with_name("other.png")
    Image.new("RGB", (160, 120)).save(other)
    assert run("compare", photo, other, env={"IMGEDIT_COMPARE_MAX": "rmse=0"}).returncode == 1
    masked = run("mask", photo, "--json", env={"IMGEDIT_MASK_RECT": "1,1,9,9"})
    assert json.loads(masked.stdout)["steps"][0]["params"]["rect"] == [[1, 1, 9, 9]]


@pytest.mark.parametrize(
    ("command", "variable", "value", "message"),
    [
        ("upscale", "IMGEDIT_UPSCALE_SCALE", "0.5", "--scale: 0.5 is too small, it must be 1 to 8"),
        ("upscale", "IMGEDIT_UPSCALE_BACKEND", "fo", "there is no upscale backend 'fo'"),
        ("upscale", "IMGEDIT_UPSCALE_FAITHFUL", "1", "the upscale backend 'lanczos' has no option --faithful"),
        ("erase", "IMGEDIT_ERASE_MAX_PIXELS", "0", "--max-pixels: 0 is too small, it must be at least 1"),
        ("profile lanczos", "IMGEDIT_PROFILE_SIZE", "3", "--size: 3 is too small, it must be 8 to 20000"),
        ("models verify x", "IMGEDIT_MODELS_VERIFY_JSON", "x", "Invalid value for '--json': 'x' is not a"),
    ],
)
def test_an_error_names_the_variable_that_set_a_value(
    command: str, variable: str, value: str, message: str, photo: Path, run: Run
) -> None:
    arguments = [*command.split(), *([] if " " in command else [photo])]
    first, second = run(*arguments, env={variable: value, "IMGEDIT_MASK_FIT": value}).stderr.decode().splitlines()
    assert first.startswith(f"error: {message}") and first.endswith(f" (set by {variable})")
    assert second.startswith("hint: ")


def test_a_value_that_was_typed_is_of_no_variable(photo: Path, run: Run) -> None:
    said = run("upscale", "--scale=0", photo, env={"IMGEDIT_UPSCALE_SCALE": "0"}).stderr
    assert b"error: --scale: 0.0 is too small, it must be 1 to 8\n" in said


def test_a_variable_that_is_not_at_fault_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgedit.cli import _variables

    for name, value in (("OUTPUT", "b.png"), ("CLOSE", ""), ("FROM", "x.png")):
        monkeypatch.setenv(f"IMGEDIT_MASK_{name}", value)
    assert _variables("--output: it cannot be written", ["mask", "-o", "a.png"]) == ""
    assert _variables("--output: it cannot be written", ["mask"]) == " (set by IMGEDIT_MASK_OUTPUT)"
    assert _variables("there is no '' and no 'x.png'", ["mask", "x.png"]) == ""
    assert _variables("there is no 'x.png'", ["mask"]) == " (set by IMGEDIT_MASK_FROM)"


def test_damage_in_a_stream_is_not_called_done(photo: Path, run: Run) -> None:
    good = photo.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 255
    result = run("mask", "--rect", "1,1,9,9", "--keep-going", stdin=good + bytes(bad) + good)
    assert result.returncode == 3 and b"not read" in result.stderr and len(frames(result.stdout)) == 1


def test_plans_hold_anywhere(photo: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (160, 120), "grey").save(tmp_path / "deep" / "ref.png")
    (tmp_path / "deep" / "p.yaml").write_text("steps: [match-hist: {reference: ref.png}]\n")
    plan = run("run", "deep/p.yaml", "--dry-run")
    assert plan.returncode == 0
    (tmp_path / "plan.yaml").write_bytes(plan.stdout)
    assert run("run", "plan.yaml", photo, "-o", "out.png").returncode == 0
    assert run("run", "upscale-photo", "--dry-run", "--set", "upscale.backend=foo").returncode == 2


def test_a_closed_output_is_one_error(tmp_path: Path, photo: Path) -> None:
    program = f"PYTHONPATH={ROOT} {sys.executable} -m imgedit"
    for command in ("info in.png", "compare in.png in.png", "compare in.png in.png -o d.png"):
        done = subprocess.run(["bash", "-c", f"{program} {command} >&-"], cwd=tmp_path, capture_output=True)
        assert done.returncode == 74 and b"hint: " in done.stderr and b"Traceback" not in done.stderr, command


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("erase in.png --mask m.png", b"hint: imgedit mask PICTURE --from MASK | imgedit erase "),
        ("erase in.png -o results", b"hint: -o results.png; or for a folder: mkdir results\n"),
        ("erase in.png -o out.jpg", b"hint: -o out.png\n"),
    ],
)
def test_what_other_programs_taught_leads_to_the_way_here(command: str, hint: bytes, photo: Path, run: Run) -> None:
    result = run(*command.split())
    assert result.returncode == 2 and hint in result.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(MemoryError(), 75), (RuntimeError("can't start new thread"), 75), (RuntimeError("other"), 70)]
)
def test_what_says_that_memory_is_out(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "invoke", fail)
    assert cli.main(["backends"]) == code
    said = capsys.readouterr().err
    assert said.count("error:") == said.count("hint:") == 1
    assert ("Traceback" in said) == (code == 70)
