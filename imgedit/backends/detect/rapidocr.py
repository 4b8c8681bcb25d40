"""PP-OCR networks for finding and reading text, out of the files that the rapidocr package carries.

Only the network files of that package are used, through onnxruntime: nothing is downloaded, logged or written, and
no socket is opened. Detection follows Liao et al., "Real-time Scene Text Detection with Differentiable
Binarization" (AAAI 2020), reading is greedy CTC decoding (Graves et al., ICML 2006).
"""

from __future__ import annotations

import importlib.util
import math
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imgedit.errors import Unavailable
from imgedit.frame import Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import Pixels

#: the map of the detector is cut here (0…1); boxes with a lower mean are not looked at
THRESHOLD = 0.3
#: boxes are grown by this share of area / perimeter; 1.5 in the paper, more loses context, less cuts letters
GROW = 1.6
#: pictures with a shorter side than this are searched enlarged too: letters under about 12 pixels, weak contrast
SHORT_SIDE = 736
MAX_ENLARGE = 3.0
#: longer sides are searched reduced: memory grows by about 0.35 GB per megapixel
LONG_SIDE = 1536
#: nothing smaller than this can be read
MIN_SIDE = 6
#: the detector was trained on pictures normalised by these, in this order
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: height of a line for the reader, in pixels, and the widest line
LINE_HEIGHT = 48
LINE_WIDTH = (320, 3200)
#: a line read worse than this is also tried upside down
SURE = 0.9
#: a single character must be found and read at least this well: many things look like a 1 or an O
LONE_FOUND, LONE_READ = 0.6, 0.95
#: and it must not be larger than this share of the picture: a shape that fills it is no letter
LONE_SHARE = 0.25
MAX_THREADS = 4


class Rapidocr:
    """Finds text by its look and keeps what can be read: the score is how well it could be read (0…1)."""

    summary: ClassVar[str] = "PP-OCR networks that the rapidocr package carries; finds and reads, offline"
    requires: ClassVar[tuple[str, ...]] = ("rapidocr", "onnxruntime")
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    reads: ClassVar[bool] = True

    @property
    def fingerprint(self) -> dict[str, str]:
        """Name and digest of the two networks, for the record of the step: role → name and digest."""
        return {role: f"{_file(role).stem} sha256:{_sha256(_file(role))}" for role in ("det", "rec")}

    def detect(self, pixels: Pixels, *, read: bool) -> list[Region]:
        """Return the regions of text in (rows, columns, 3) uint8 *pixels*, as rotated boxes; with *read*, its words.

        Every box found is read, with or without *read*: what cannot be read is seldom text, so that this halves
        the false boxes. Boxes of fewer than two letters or digits are dropped unless they are beyond doubt.
        """
        from imgedit.ops import regions

        rows, columns = pixels.shape[:2]
        if min(rows, columns) < MIN_SIDE:
            return []
        found: list[tuple[Any, float, str]] = []
        for scale in _scales(rows, columns):
            scores = _score_map(pixels, scale)
            per_pixel = (columns / scores.shape[1], rows / scores.shape[0])
            for box, score in regions.boxes_of_map(scores, threshold=THRESHOLD, min_score=THRESHOLD, grow=GROW):
                polygon = box * per_pixel
                text, sure = _read(pixels, polygon)
                signs = sum(sign.isalnum() for sign in text)
                small = regions.area(polygon) <= LONE_SHARE * rows * columns
                if signs > 1 or (signs and small and score >= LONE_FOUND and sure >= LONE_READ):
                    found.append((polygon, sure, text))
        merged = regions.merge([box for box, _, _ in found], [sure for _, sure, _ in found])
        result = []
        for polygon, members, whole in merged:
            _, sure, text = found[members[0]]
            if read:
                # the words of the whole box, not of the part that could be read best
                text = found[whole[0]][2] if whole else _read(pixels, polygon)[0]
            corners = regions.corners(regions.clip(polygon, rows, columns))
            if len(corners) > 2:
                result.append(Region(corners, "text", text if read else None, round(sure, 4)))
        return result


def _scales(rows: int, columns: int) -> list[float]:
    """The scales that a picture is searched at."""
    base = min(1.0, LONG_SIDE / max(rows, columns))
    larger = min(SHORT_SIDE / min(rows, columns), LONG_SIDE / max(rows, columns), MAX_ENLARGE)
    return [base, larger] if larger > 1.2 else [base]


def _score_map(pixels: Pixels, scale: float) -> NDArray[np.float32]:
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


def _read(pixels: Pixels, box: NDArray[np.float64]) -> tuple[str, float]:
    """Return what the line in a rotated *box* says, and the mean confidence of its characters (0…1)."""
    import numpy as np

    line = _line(pixels, box)
    text, sure = _decode(line)
    if sure < SURE:
        turned = _decode(np.ascontiguousarray(line[::-1, ::-1]))
        if turned[1] > sure:
            return turned
    return text, sure


def _line(pixels: Pixels, box: NDArray[np.float64]) -> Pixels:
    """Return the content of a rotated *box*, turned level and to the height of a line."""
    import cv2
    import numpy as np

    centre, (wide, high), angle = cv2.minAreaRect(box.astype(np.float32))
    if not -45 <= angle <= 45:
        wide, high, angle = high, wide, angle - math.copysign(90, angle)
    # text that runs up or down the picture is turned; which of the two, reading both ways decides
    if high >= 1.5 * wide:
        wide, high, angle = high, wide, angle - 90
    scale = LINE_HEIGHT / max(high, 1.0)
    columns = min(max(16, math.ceil(wide * scale)), LINE_WIDTH[1])
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    step_x, step_y = wide / columns, max(high, 1.0) / LINE_HEIGHT
    axes = np.array([[cosine * step_x, -sine * step_y], [sine * step_x, cosine * step_y]])
    # pixel centres of the line to pixel centres of the picture
    origin = np.array(centre) + axes @ (0.5 - np.array([columns, LINE_HEIGHT]) / 2) - 0.5
    matrix = np.column_stack([axes, origin])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, (columns, LINE_HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _decode(line: Pixels) -> tuple[str, float]:
    import numpy as np

    columns = line.shape[1]
    values = np.zeros((1, 3, LINE_HEIGHT, max(columns, LINE_WIDTH[0])), np.float32)
    values[0, :, :, :columns] = (line[..., ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
    shares = _run("rec", values)[0]
    best = shares.argmax(axis=1)
    # CTC: repeated characters are one, and 0 stands for none
    kept = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    if not kept.any():
        return "", 0.0
    known = _characters()
    text = "".join(known[i] for i in best[kept])
    return text.strip(), float(shares[kept, best[kept]].mean())


def _run(role: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = _session(role)
    result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
    return result


@cache
def _session(role: str) -> Any:
    """Return the network for *role*, loaded once in a process."""
    path = _file(role)
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # the cores that this process may use; not every system can say
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.intra_op_num_threads = min(MAX_THREADS, usable)
    options.inter_op_num_threads = 1
    # waiting threads sleep, and memory is given back: other stages and processes share the machine
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@cache
def _characters() -> tuple[str, ...]:
    listed = _session("rec").get_modelmeta().custom_metadata_map["character"].splitlines()
    return ("", *listed, " ")


@cache
def _file(role: str) -> Path:
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


@cache
def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
