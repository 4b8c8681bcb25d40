"""Where frames go: standard output as a stream, a file, a folder, JSON lines, or a report for people."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from imgedit import codec
from imgedit.cli import report, talk
from imgedit.cli.sources import Source
from imgedit.describe import described
from imgedit.errors import FileError, UsageError
from imgedit.frame import Frame, ImageInfo, Sidecar

#: no longer names come out of metadata: with what is appended they fit into what file systems allow, 255 bytes
MOST_BYTES = 120


class Sink(Protocol):
    """Takes each frame as soon as it is done."""

    def put(self, frame: Frame, source: Source) -> None: ...


class Stream:
    """Frames back to back on standard output."""

    def put(self, frame: Frame, source: Source) -> None:
        codec.write_stream(sys.stdout.buffer, frame)
        sys.stdout.buffer.flush()


class Lines:
    """Sidecars as JSON lines on standard output."""

    def put(self, frame: Frame, source: Source) -> None:
        _print(frame.sidecar.to_json() + "\n")


class Report:
    """What was found and done, in words, on standard output."""

    def put(self, frame: Frame, source: Source) -> None:
        _print(report.whole(frame.sidecar, source.name))


class Unwritten(Report):
    """A report in place of a picture that a terminal cannot show; says that nothing was written."""

    def put(self, frame: Frame, source: Source) -> None:
        super().put(frame, source)
        talk.say("hint", "the picture was not written: give -o FILE, or pipe on: … | imgedit …")


class Metrics:
    """The metrics as a table; named where there are several pictures."""

    def __init__(self, *, named: bool) -> None:
        self.named = named

    def put(self, frame: Frame, source: Source) -> None:
        head = f"{talk.printable(source.name)}\n" if self.named else ""
        _print(head + report.metrics(frame.sidecar))


class File:
    """One file with its side files; a second frame is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken = False

    def put(self, frame: Frame, source: Source) -> None:
        if self.taken:
            raise UsageError(f"a second picture would overwrite {str(self.path)!r}", "give a folder: -o FOLDER/")
        self.taken = True
        codec.write_file(frame, self.path)


class Folder:
    """One file for each frame: named after its source, or numbered where they come through a pipe."""

    def __init__(self, folder: Path, taken: Container[str] = ()) -> None:
        self.folder = folder
        self.taken = taken
        self.count = 0

    def put(self, frame: Frame, source: Source) -> None:
        codec.write_file(frame, self.folder / f"{self.stem(source)}.png")

    def stem(self, source: Source) -> str:
        """Return the name for the next frame of *source*: never one out of a sidecar, which is no path to write to."""
        return self._number() if source.path is None else source.path.stem

    def _number(self) -> str:
        while True:
            self.count += 1
            if (stem := f"{self.count:06}") not in self.taken:
                return stem


class Kept:
    """The result of every step: one file for each in *folder*, named after the picture, its number and the stage.

    A picture that comes through a pipe is called as its record says, made safe, or has a number where that is silent.
    """

    def __init__(self, folder: Path, taken: Iterable[str] = ()) -> None:
        self.folder = folder
        # file systems may take names that differ in capitals for the same
        self.taken = {stem.casefold() for stem in taken}
        self.count = 0

    def of(self, source: Source, first: Frame) -> Callable[[Frame], None]:
        """Return what keeps the results of a frame of *source* as they are made; *first*: the frame as it was read."""
        stem = self._free(first) if source.path is None else source.path.stem

        def put(frame: Frame) -> None:
            steps = frame.sidecar.steps
            codec.write_file(frame, self.folder / f"{stem}.{len(steps):02}-{steps[-1].stage}.png")

        return put

    def _free(self, frame: Frame) -> str:
        """Return the name for a frame of a stream, one that no other picture has."""
        self.count += 1
        image = frame.sidecar.image
        wanted = safe_stem(image.source or "") if image else ""
        stem, number = wanted or f"{self.count:06}", 1
        while stem.casefold() in self.taken:
            number += 1
            stem = f"{wanted or f'{self.count:06}'}-{number}"
        self.taken.add(stem.casefold())
        return stem


def safe_stem(name: str) -> str:
    """Return a name out of metadata as one for a file, without folders and ending; "" where nothing is left of it.

    What does not print, and what some file system refuses, becomes ``_``; none of `` .-`` comes first or last.
    """
    last = re.split(r"[/\\]", name)[-1].lstrip(" .-")
    safe = "".join("_" if c in '<>:"|?*' or not c.isprintable() else c for c in Path(last).stem)
    return safe.encode()[:MOST_BYTES].decode(errors="ignore").strip(" .-")


class Difference:
    """The difference picture of a comparison goes to *pictures*, its numbers to *numbers*."""

    def __init__(self, pictures: Sink, numbers: Sink | None) -> None:
        self.pictures = pictures
        self.numbers = numbers

    def put(self, frame: Frame, source: Source) -> None:
        grey = frame.planes["difference"][:, :, None].repeat(3, axis=2)
        name = codec.show(source.path.name) if source.path else None
        image = ImageInfo("", frame.rows, frame.columns, "uint8", "L", name)
        self.pictures.put(described(Frame(grey, sidecar=Sidecar(image=image))), source)
        if self.numbers is not None:
            self.numbers.put(frame, source)


def plan(output: str | None, sources: Sequence[Source], *, json: bool) -> Sink:
    """Return the sink for -o *output*. Raises UsageError or FileError before any work is done."""
    if output is None or output == "-":
        if json:
            return Lines()
        if sys.stdout is not None and sys.stdout.isatty():
            if output == "-":
                raise UsageError("pictures do not go to a terminal", "give -o FILE, or pipe on: … | imgedit …")
            return Unwritten()
        return Stream()
    if json:
        raise UsageError("--json writes to standard output", "leave out -o, or --json (files have their JSON anyway)")
    path = Path(output)
    if path.is_dir() or output.endswith("/") or (len(sources) > 1 and path.suffix.lower() != ".png"):
        return _folder(path, sources)
    if len(sources) > 1:
        raise UsageError(f"{len(sources)} pictures do not go into one file {output!r}", "give a folder: -o FOLDER/")
    if path.suffix.lower() != ".png":
        raise UsageError(f"pictures go out as PNG, not as {path.suffix or 'a name without .png'}", _png(path))
    codec.check_writable(path)
    return File(path)


def keeper(folder: str, sources: Sequence[Source]) -> Kept:
    """Return what keeps the results of all steps in *folder*. FileError or UsageError before any work is done."""
    path = Path(folder)
    if not path.is_dir():
        raise FileError(f"there is no folder {codec.show(path)!r}", f"mkdir -p {codec.show(path)}")
    stems: dict[str, Path] = {}
    for source in sources:
        if source.path is not None and stems.setdefault(source.path.stem, source.path) != source.path:
            raise _clash(stems[source.path.stem], source.path)
    return Kept(path, stems)


def _print(text: str) -> None:
    # at once: who reads a pipe of many pictures sees each as it is done
    sys.stdout.write(text)
    sys.stdout.flush()


def _png(path: Path) -> str:
    if not path.name:
        return "-o out.png"
    folder = "" if path.suffix or path.exists() else f"; or for a folder: mkdir {codec.show(path)}"
    return f"-o {path.with_suffix('.png')}{folder}"


def _folder(folder: Path, sources: Sequence[Source]) -> Folder:
    """Return the sink for *folder*; UsageError where two sources would write one file."""
    if not folder.is_dir():
        raise FileError(f"there is no folder {codec.show(folder)!r}", f"mkdir -p {codec.show(folder)}")
    stems: dict[str, Path] = {}
    for source in sources:
        if source.path is not None:
            if source.path.stem in stems:
                raise _clash(stems[source.path.stem], source.path)
            stems[source.path.stem] = source.path
            codec.check_writable(folder / f"{source.path.stem}.png")
    for stem, path in stems.items():
        picture, dot, plane = stem.rpartition(".")
        if dot and picture in stems and codec.is_plane_name(plane):
            raise _clash(stems[picture], path)
    return Folder(folder, stems)


def _clash(one: Path, other: Path) -> UsageError:
    return UsageError(
        f"{codec.show(one)!r} and {codec.show(other)!r} would write the same file",
        "rename one of them, or do them one after the other into two folders",
    )
