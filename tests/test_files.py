"""Pictures on disk with what lies beside them, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgedit.codec import (
    Limits,
    check_writable,
    picture_of,
    plane_path,
    read_file,
    read_stream,
    sidecar_path,
    write_file,
    write_stream,
)
from imgedit.codec.atomic import Pending
from imgedit.codec.files import planned_paths
from imgedit.errors import DataError, FileError, ImgeditError, OutOfMemory, UsageError
from imgedit.frame import Frame, ImageInfo, MaskInfo, Region, ToneStats, plane_digest


def picture(rows: int = 20, columns: int = 30, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def plane(value: int = 255, rows: int = 20, columns: int = 30) -> np.ndarray[Any, Any]:
    array = np.zeros((rows, columns), np.uint8)
    array[2:5, 3:9] = value
    return array


def framed(**changes: Any) -> Frame:
    """Return a frame with a mask, a hint and a sidecar that fits."""
    frame = Frame(picture(), mask=plane(), planes={"hint": plane(7)}).replace(**changes)
    image = ImageInfo(frame.digest, frame.rows, frame.columns, "uint8", "RGB", "a.png")
    mask = None if frame.mask is None else MaskInfo(plane_digest(frame.mask), 0.03, grid=8, dilation_cells=1)
    return frame.with_sidecar(image=image, mask=mask, regions=(Region(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(path: Path, data: bytes, error: type[BaseException] | None = None) -> None:
    """Write *data* to *path* as write_file() does, or raise *error* in the middle of it."""
    pending = Pending(path)
    try:
        pending.file.write(data)
        if error is not None:
            raise error
        pending.flush()
        pending.commit()
    finally:
        pending.discard()


# --- a picture and what lies beside it -----------------------------------------------------------------


def test_a_frame_comes_back_whole(tmp_path: Path) -> None:
    frame = framed(alpha=plane(9), icc=b"profile", chunks=(("tEXt", b"a\0b"),))
    path = tmp_path / "x.png"
    paths = write_file(frame, path)
    assert [each.name for each in paths] == ["x.mask.png", "x.hint.png", "x.png", "x.png.json"]
    assert paths == planned_paths(frame, path)
    assert names(tmp_path) == ["x.hint.png", "x.mask.png", "x.png", "x.png.json"]
    back = read_file(path)
    assert back.sidecar == frame.sidecar
    assert np.array_equal(back.pixels, frame.pixels)
    assert back.alpha is not None
    assert back.mask is not None
    assert np.array_equal(back.alpha, plane(9))
    assert np.array_equal(back.mask, plane())
    assert np.array_equal(back.planes["hint"], plane(7))
    assert (back.icc, back.chunks) == (frame.icc, frame.chunks)
    assert b"imgedit" not in path.read_bytes()
    assert np.array_equal(np.asarray(Image.open(path))[..., :3], frame.pixels)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.booleans(), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 9))
def test_file_round_trip(rows: int, columns: int, flat: bool, dtype: type, seed: int) -> None:
    import tempfile

    high = 3 if flat else np.iinfo(dtype).max
    pixels = np.random.default_rng(seed).integers(0, high, (rows, columns, 3), dtype, endpoint=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        write_file(Frame(pixels), path)
        back = read_file(path)
    assert back.pixels.dtype == pixels.dtype
    assert np.array_equal(back.pixels, pixels)


def test_smooth_and_flat_pictures_become_small(tmp_path: Path) -> None:
    ramp = np.repeat(np.add.outer(np.arange(500), np.arange(700))[..., None] // 5 % 256, 3, axis=2).astype(np.uint8)
    write_file(Frame(ramp), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size < ramp.nbytes / 50
    assert np.array_equal(read_file(tmp_path / "x.png").pixels, ramp)


def test_a_stream_in_a_file_is_read_back_whole(tmp_path: Path) -> None:
    frame, path = framed(), tmp_path / "out.png"
    with path.open("wb") as file:
        write_stream(file, frame)
    back = read_file(path)
    assert back.sidecar == frame.sidecar
    assert np.array_equal(back.planes["hint"], plane(7))


def test_of_two_sidecars_the_one_that_fits_is_believed(tmp_path: Path) -> None:
    frame, other, path = framed(), framed(pixels=picture(seed=1)), tmp_path / "x.png"
    with path.open("wb") as file:
        write_stream(file, frame)
    sidecar_path(path).write_text(other.sidecar.to_json())
    assert read_file(path).sidecar == frame.sidecar
    sidecar_path(path).write_text(frame.with_sidecar(metrics={"psnr": 1.0}).sidecar.to_json())
    assert read_file(path).sidecar.metrics == {"psnr": 1.0}


def test_a_picture_changed_by_another_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.png"
    frame = framed()
    write_file(frame, path)
    Image.fromarray(picture(seed=3)).save(path)
    back = read_file(path)
    assert back.sidecar.steps[-1].stage == "external"
    assert back.sidecar.steps[-1].source == frame.digest
    assert back.sidecar.regions == ()
    assert back.mask is not None
    assert back.planes == {}
    assert "another program" in caplog.text


def test_a_mask_changed_by_hand_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.png"
    tone = ToneStats(((0.0, 1.0),) * 3, (0.5,) * 3, (0.1,) * 3, (50.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    write_file(framed().with_sidecar(tone=tone), path)
    assert read_file(path).sidecar.tone == tone
    changed = plane(128)
    Image.fromarray(changed).save(tmp_path / "x.mask.png")
    back = read_file(path)
    assert back.mask is not None
    assert np.array_equal(back.mask, changed)
    assert back.sidecar.mask == MaskInfo(plane_digest(changed), 18 / 600)
    assert back.sidecar.regions != ()
    assert back.sidecar.tone is None
    assert "mask was changed" in caplog.text


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_mask_made_by_hand(tmp_path: Path, mode: str) -> None:
    Image.fromarray(picture()).save(tmp_path / "x.png")
    image = Image.fromarray(plane())
    deep = Image.fromarray(plane().astype(np.uint16) * 257)
    (deep if mode == "I;16" else image.convert(mode)).save(tmp_path / "x.mask.png")
    frame = read_file(tmp_path / "x.png")
    assert frame.mask is not None
    assert np.array_equal(frame.mask, plane())
    assert frame.sidecar.mask is not None
    assert frame.sidecar.mask.digest == plane_digest(plane())


def test_masks_that_cannot_be_one(tmp_path: Path) -> None:
    path, mask = tmp_path / "x.png", tmp_path / "x.mask.png"
    Image.fromarray(picture()).save(path)
    for image, what in (
        (Image.fromarray(plane(255, 30, 20)), "20×30.*30×20"),
        (Image.fromarray(picture()), "colours"),
        (Image.new("RGBA", (30, 20), (0, 0, 0, 100)), "transparent"),
    ):
        image.save(mask)
        with pytest.raises(DataError, match=what) as error:
            read_file(path)
        assert "x.mask.png" in error.value.message
    mask.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"x\.mask\.png"):
        read_file(path)


def test_a_mask_of_an_earlier_picture_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.png"
    write_file(framed(), path)
    write_file(framed(mask=None, planes={}), path)
    assert "from before" in caplog.text
    assert names(tmp_path) == ["x.hint.png", "x.mask.png", "x.png", "x.png.json"]
    caplog.clear()
    back = read_file(path)
    assert (back.mask, dict(back.planes)) == (None, {})
    assert "is not used" in caplog.text


def test_other_planes_are_used_only_as_they_were_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.png"
    write_file(framed(), path)
    Image.fromarray(plane(99)).save(tmp_path / "x.hint.png")
    assert dict(read_file(path).planes) == {}
    assert "was changed" in caplog.text
    (tmp_path / "x.hint.png").unlink()
    (tmp_path / "x.mask.png").unlink()
    caplog.clear()
    back = read_file(path)
    assert (back.mask, dict(back.planes), back.sidecar.mask) == (None, {}, None)
    assert caplog.text.count("is not there") == 2


def test_neighbours_are_not_planes(tmp_path: Path) -> None:
    write_file(framed(), tmp_path / "a.png")
    Image.fromarray(picture(5, 5)).save(tmp_path / "a.small.png")
    assert set(read_file(tmp_path / "a.png").planes) == {"hint"}
    sides = {name: picture_of(tmp_path / name) is not None for name in names(tmp_path) if name.endswith(".png")}
    assert sides == {"a.hint.png": True, "a.mask.png": True, "a.png": False, "a.small.png": False}
    assert not picture_of(tmp_path / "nothing.mask.png")


def test_a_file_of_planes_beside_is_named_when_piped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_file(framed(), tmp_path / "x.png")
    with (tmp_path / "x.png").open("rb") as file:
        (frame,) = read_stream(file)
    assert frame.mask is None
    assert "hint and mask lie in files beside" in caplog.text


def test_names_of_what_lies_beside() -> None:
    assert plane_path("d/x.png", "mask") == Path("d/x.mask.png")
    assert plane_path("d/x.y.PNG", "hint") == Path("d/x.y.hint.png")
    assert plane_path("d/x", "mask") == Path("d/x.mask.png")
    assert sidecar_path("d/x.png") == Path("d/x.png.json")
    with pytest.raises(UsageError) as error:
        planned_paths(framed(), "d/x.jpg")
    assert error.value.hint == "-o d/x.png"


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.png"))
    Image.fromarray(picture()).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(path)
    frame = read_file(path)
    assert frame.sidecar.image is not None
    assert frame.sidecar.image.source == "\\xff\\xe9.png"
    write_file(frame, path)
    assert read_file(path).sidecar == frame.sidecar


def test_more_than_one_picture_or_bytes_behind_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        write_stream(file, framed())
        write_stream(file, framed())
    assert read_file(path).rows == 20
    assert "more than one picture" in caplog.text
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"x")
    assert read_file(path).rows == 20
    assert "further bytes" in caplog.text


def test_a_picture_through_a_named_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    Image.fromarray(picture()).save(tmp_path / "x.bmp")
    writer = threading.Thread(target=lambda: fifo.write_bytes((tmp_path / "x.bmp").read_bytes()))
    writer.start()
    frame = read_file(fifo)
    writer.join()
    assert np.array_equal(frame.pixels, picture())


# --- what cannot be read -------------------------------------------------------------------------------


def test_what_is_not_there_or_not_readable(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "no.png", "does not exist"), (tmp_path, "folder"), (Path("a\0b"), "null")):
        with pytest.raises(FileError, match=what) as error:
            read_file(path)
        assert error.value.exit_code == 74
        assert error.value.hint
    (tmp_path / "x").touch()
    for path in (tmp_path / "x" / "y.png", tmp_path / ("n" * 300)):
        with pytest.raises(FileError):
            read_file(path)
    with pytest.raises(DataError, match="empty"):
        read_file(tmp_path / "x")


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"schema": "labelme"}', "\ud800", '{"schema": "imgedit/1", "x": 1}']
)
def test_foreign_json_beside_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(picture()).save(path)
    sidecar_path(path).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"x\.png\.json") as error:
        read_file(path)
    assert f"mv {path}.json {path}.json.old" in error.value.hint  # it may be somebody's: first of all, keep it


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "hello", '{"width": 3}', '{"schema": "labelme"}', '{"a": {"schema": "imgedit/1"}}', "\ud800"],
)
def test_another_programs_json_is_never_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.png"
    data = text.encode("utf-8", "surrogatepass")
    sidecar_path(path).write_bytes(data)
    for call in (lambda: write_file(framed(), path), lambda: check_writable(path)):
        with pytest.raises(FileError, match=r"x\.png\.json is not by imgedit") as error:
            call()
        assert error.value.hint.endswith(f"mv {path}.json {path}.json.old")
        assert names(tmp_path) == ["x.png.json"]
        assert sidecar_path(path).read_bytes() == data
    sidecar_path(path).rename(tmp_path / "x.png.json.old")
    write_file(framed(), path)
    check_writable(path)
    write_file(framed(), path)
    assert read_file(path).sidecar == framed().sidecar


def test_sidecars_of_ours_are_replaced_also_other_versions(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for text in (framed().sidecar.to_json(), framed().sidecar.to_json(lines=True), '{"schema": "imgedit/99"}'):
        sidecar_path(path).write_text(text)
        check_writable(path)
        write_file(framed(), path)
        assert read_file(path).sidecar == framed().sidecar


def test_what_would_stop_the_sidecar_is_said_before(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    sidecar_path(path).mkdir()
    with pytest.raises(FileError, match=r"x\.png\.json"):
        check_writable(path)
    assert names(tmp_path) == ["x.png.json"]


@pytest.mark.parametrize("length", [250, 251, 252, 255])
def test_names_that_leave_no_room_for_side_files(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("n" * (length - 4) + ".png")
    Image.fromarray(picture()).save(path)
    assert np.array_equal(read_file(path).pixels, picture())
    assert not picture_of(path)
    chunk = b"plANmask\0" + plane_digest(plane()).encode()
    head, body = path.read_bytes()[:33], path.read_bytes()[33:]
    path.write_bytes(head + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + body)
    assert read_file(path).mask is None
    with pytest.raises(FileError):
        check_writable(tmp_path / ("m" * 252 + ".png"))


def test_errors_of_the_system_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(framed(), tmp_path / "x.png")

    def broken(path: Path) -> bool:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "is_file", broken)
    for call in (read_file, lambda path: write_file(framed(mask=None), path)):
        with pytest.raises(FileError, match="Input/output error"):
            call(tmp_path / "x.png")  # type: ignore[operator]


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(framed(), tmp_path / "x.png")

    def exhausted(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("imgedit.codec.png.read_png", exhausted)
    with pytest.raises(OutOfMemory) as error:
        read_file(tmp_path / "x.png")
    assert error.value.exit_code == 75


def test_a_sidecar_above_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_file(framed(), path)
    with pytest.raises(DataError, match="larger than 50 bytes"):
        read_file(path, Limits(sidecar_bytes=50))


# --- whole or not at all -------------------------------------------------------------------------------


@pytest.fixture(params=["anonymous", "named", "no /proc"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write by an anonymous file, or as on systems without them."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif request.param == "no /proc":

        def refuse(*_: Any, **__: Any) -> None:
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"one", b"two" * 100_000, b""):
        save(path, data)
        assert path.read_bytes() == data
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            save(path, b"half", error)
        assert names(tmp_path) == ["x"]
    assert path.read_bytes() == b""


@pytest.mark.usefixtures("way")
def test_rights_are_the_umasks_or_those_replaced(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(tmp_path / "x", b"")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
        (tmp_path / "x").chmod(0o604)
        save(tmp_path / "x", b"")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_targets_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    for path, what, hint in (
        (tmp_path / "link", "symbolic link", str(tmp_path / "target")),
        (tmp_path / "no" / "x.png", "does not exist", f"mkdir -p {tmp_path / 'no'}"),
        (tmp_path, "folder", "file"),
        (tmp_path / "file" / "x", "no folder", "file"),
        (tmp_path / "fifo", "no plain file", "-"),
        (tmp_path / ("n" * 300), "could not be written", "shorter"),
        (tmp_path / "a\0b", "null", "name"),
    ):
        with pytest.raises(FileError, match=what) as error:
            save(path, b"x")
        assert hint in error.value.hint
        assert error.value.exit_code == 74
    assert names(tmp_path) == ["fifo", "file", "link"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folders_and_files_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "x").chmod(0o444)
    with pytest.raises(FileError, match="write-protected"):
        save(tmp_path / "x", b"x")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(FileError, match="could not be written"):
            save(tmp_path / "y", b"x")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.usefixtures("way")
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_file(framed(), path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
    try:
        with pytest.raises(FileError) as error:
            write_file(Frame(picture(400, 400)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "ulimit" in error.value.hint
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_on_a_full_disk() -> None:
    with pytest.raises(FileError) as error, Path("/dev/full").open("wb", buffering=0) as file:
        write_stream(file, framed())
    assert "full" in error.value.hint


def test_a_failure_between_the_files_leaves_those_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    write_file(framed(), path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    flush = Pending.flush

    def fail(self: Pending) -> None:
        if self.path.suffix == ".json":
            raise FileError("full", "make room")
        flush(self)

    monkeypatch.setattr(Pending, "flush", fail)
    with pytest.raises(FileError):
        write_file(framed(pixels=picture(seed=5), mask=plane(3)), path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("named", [False, True])
def test_each_file_is_brought_to_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    paths = write_file(framed(), tmp_path / "x.png")
    assert synced == [path.stat().st_size for path in paths]  # and whole


def test_writers_of_one_name_do_not_break_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents = [bytes([number]) * 50_000 for number in range(4)]
    failures: list[BaseException] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(15):
                save(path, data)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in contents
    assert failures == []
    assert names(tmp_path) == ["x"]


LOOP = """
import sys, itertools, numpy as np
from imgedit.codec import write_file
from imgedit.frame import Frame
for number in itertools.count():
    pixels = np.full((300, 300, 3), number % 256, np.uint8)
    write_file(Frame(pixels, mask=pixels[..., 0].copy()), sys.argv[1])
    if number == 0:
        print("ready", flush=True)
"""


def test_a_kill_leaves_only_whole_files(tmp_path: Path) -> None:
    path, moments = tmp_path / "x.png", random.Random(0)
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0.02, 0.15))
            child.kill()
        assert len(np.unique(read_file(path).pixels)) == 1
        json.loads(sidecar_path(path).read_text())
        Image.open(tmp_path / "x.mask.png").load()


# --- what is imported ----------------------------------------------------------------------------------

LIGHT = """
import sys, io, numpy as np
from imgedit.codec import read_stream, write_stream
from imgedit.frame import Frame
file = io.BytesIO()
write_stream(file, Frame(np.zeros((50, 50, 3), np.uint8), mask=np.zeros((50, 50), np.uint8)))
file.seek(0)
(frame,) = read_stream(file)
print([name for name in ("PIL", "cv2") if name in sys.modules])
"""


def test_a_pipe_of_pngs_needs_neither_pillow_nor_opencv() -> None:
    out = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


def test_errors_of_reading_are_ours(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    write_file(framed(), whole)
    data, cut = whole.read_bytes(), tmp_path / "cut.png"
    for size in range(0, len(data), 7):
        cut.write_bytes(data[:size])
        with pytest.raises(ImgeditError) as error:
            read_file(cut)
        assert error.value.exit_code == 65
