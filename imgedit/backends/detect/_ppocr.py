"""The PP-OCR networks that the rapidocr package carries, run by onnxruntime: a map of text, and the reading of a line.

Only the network files of that package are used: nothing is downloaded, logged or written, and no socket is opened.
Detection follows Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (AAAI 2020), reading
is greedy CTC decoding (Graves et al., ICML 2006).
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgedit.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels
    from imgedit.ops.lines import Line, Reading

#: nothing smaller than this can be read
MIN_SIDE = 6
#: the detector was trained on pictures normalised by these, in this order
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: height of a line for the reader, in pixels, and the narrowest and widest line
LINE_HEIGHT = 48
LINE_WIDTH = (48, 3200)
MAX_THREADS = 4


def score_map(pixels: Pixels, scale: float) -> NDArray[np.float32]:
    """Return (rows, columns) of 0…1 at *scale*: how much each place looks like the core of a line of text."""
    import cv2
    import numpy as np

    if scale != 1:
        rows, columns = (max(MIN_SIDE, round(side * scale)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    rows, columns = pixels.shape[:2]
    # the network halves its input five times
    padded = cv2.copyMakeBorder(pixels, 0, -rows % 32, 0, -columns % 32, cv2.BORDER_REPLICATE)
    # trained on BGR pictures
    values = padded[..., ::-1].astype(np.float32)
    values *= (1 / 255 / np.array(STD)).astype(np.float32)
    values -= (np.array(MEAN) / np.array(STD)).astype(np.float32)
    output = _run("det", np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
    return np.ascontiguousarray(output[0, 0, :rows, :columns])


def read(pixels: Pixels, line: Line) -> Reading:
    """Return what (rows, columns, 3) uint8 *pixels* say in *line*, left to right."""
    from imgedit.ops import lines

    return decode(lines.cut(pixels, line, LINE_HEIGHT, LINE_WIDTH[1]))


def decode(strip: Pixels) -> Reading:
    """Return what a strip of LINE_HEIGHT rows says."""
    import numpy as np

    from imgedit.ops.lines import Reading

    columns = strip.shape[1]
    values = np.zeros((1, 3, LINE_HEIGHT, max(columns, LINE_WIDTH[0])), np.float32)
    values[0, :, :, :columns] = (strip[..., ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
    shares = _run("rec", values)[0]
    best = shares.argmax(axis=1)
    # CTC: repeated characters are one, and 0 stands for none
    places = np.flatnonzero((best != 0) & np.concatenate([[True], best[1:] != best[:-1]]))
    if not len(places):
        return Reading("", 0.0, ())
    known = characters()
    sure = shares[places, best[places]]
    along = (places + 0.5) / (len(best) * columns / values.shape[3])
    signs = tuple((known[best[i]], float(s), float(min(a, 1.0))) for i, s, a in zip(places, sure, along))
    return Reading("".join(sign for sign, _, _ in signs).strip(), float(sure.mean()), signs)


def _run(role: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = _session(role)
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
    return result


@cache
def _session(role: str) -> Any:
    """Return the network for *role*, loaded once in a process."""
    from imgedit.backends.onnx import session

    return session(file(role), MAX_THREADS, arena=False)


@cache
def characters() -> tuple[str, ...]:
    """Return the signs that the reader knows; the first stands for none."""
    listed = _session("rec").get_modelmeta().custom_metadata_map["character"].splitlines()
    return ("", *listed, " ")


@cache
def file(role: str) -> Path:
    """Return the path of the network for *role* (det or rec) inside the rapidocr package, without importing it."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise Unavailable("the package rapidocr is not installed", "pip install rapidocr onnxruntime")
    files = sorted((Path(spec.origin).parent / "models").glob(f"*_{role}_*.onnx"))
    if not files:
        raise Unavailable(
            "the package rapidocr here carries no network files", "pip install --force-reinstall 'rapidocr>=3.8'"
        )
    return files[0]
