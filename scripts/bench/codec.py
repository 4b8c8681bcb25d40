"""Measure the codec at 12 megapixels: streams through a real pipe, files, foreign PNGs."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage import data

from imgedit.codec import read_file, read_stream, write_file, write_stream
from imgedit.frame import Frame


def photo(rows: int = 3000, columns: int = 4000) -> np.ndarray[Any, Any]:
    """Return a made-up photograph: four real ones, enlarged, with the noise of a sensor."""
    noise, parts = np.random.default_rng(0), []
    for small in (data.retina(), data.immunohistochemistry(), data.hubble_deep_field(), data.stereo_motorcycle()[0]):
        part = cv2.resize(small, (columns // 2, rows // 2), interpolation=cv2.INTER_LANCZOS4).astype(np.float32)
        part += noise.normal(0, 2.2, part.shape)
        parts.append(np.clip(part, 0, 255).astype(np.uint8))
    return np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])


def best(label: str, call: Callable[[], Any], times: int = 5) -> Any:
    """Print the shortest wall and processor time of *call*."""
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(f"{label:44s} {min(walls) * 1e3:7.0f} ms, processor {min(cpus) * 1e3:7.0f} ms")
    return result


def through_pipe(frame: Frame) -> Frame:
    """Write *frame* in a child process and read it here."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        with os.fdopen(theirs, "wb") as file:
            write_stream(file, frame)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        result = next(read_stream(file))
        file.read()
    os.waitpid(child, 0)
    return result


def twice(call: Callable[[], Any]) -> None:
    """Run *call* in two threads at once, as a comparison of two pictures does."""
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stream_size(frame: Frame) -> int:
    """Return the bytes of *frame* in a pipe."""
    file = io.BytesIO()
    write_stream(file, frame)
    return len(file.getvalue())


def main() -> None:
    """Print the table."""
    pixels = photo()
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[1000:1100, 2000:2800] = 255
    frames = {
        "RGB and mask": Frame(pixels, mask=mask),
        "RGBA": Frame(pixels, alpha=np.ascontiguousarray(pixels[..., 0])),
        "16-bit RGB": Frame(pixels.astype(np.uint16) * 257 ^ 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        for label, frame in frames.items():
            assert frame.digest  # as the engine has it
            path = Path(folder) / f"{label}.png"
            print(f"{label}: {stream_size(frame):,} bytes in a pipe")
            best("  write, pipe, read", lambda frame=frame: through_pipe(frame))
            best("  write file", lambda frame=frame, path=path: write_file(frame, path))
            best("  read file", lambda path=path: read_file(path))
            print(f"  {path.stat().st_size:,} bytes in a file")
        for level, encode in (("Pillow level 6", _pillow), ("OpenCV", _opencv)):
            path = Path(folder) / "foreign.png"
            best(f"{level}: encode", lambda encode=encode, path=path: encode(pixels, path), 1)
            print(f"  {path.stat().st_size:,} bytes")
            best("  read file", lambda path=path: read_file(path))
            best("  read file, two at once", lambda path=path: twice(lambda: read_file(path)), 3)
            best("  by Pillow, unchecked", lambda path=path: np.asarray(Image.open(path)), 3)
            best("  by OpenCV, unchecked", lambda path=path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 3)


def _pillow(pixels: np.ndarray[Any, Any], path: Path) -> None:
    Image.fromarray(pixels).save(path)


def _opencv(pixels: np.ndarray[Any, Any], path: Path) -> None:
    cv2.imwrite(str(path), pixels[..., ::-1])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.exit(main())
