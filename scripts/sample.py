"""Real photos that ship with development packages, and text drawn on them with the truth of where it is."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

#: Photos for final tables only. One rule was added after a look at them, LONE_SHARE of the rapidocr detector, for a
#: false find in coffee: it changes nothing on the others, and without it the clean ones have one false region.
HELD_OUT = ("china", "flower", "astronaut", "coffee", "chelsea", "rocket")
#: Photos for choosing parameters. The grey ones are RGB here.
TUNING = (
    "grace_hopper",
    "motorcycle_left",
    "ihc",
    "retina",
    "hubble_deep_field",
    "brick",
    "grass",
    "gravel",
    "camera",
    "coins",
    "moon",
)
KINDS = ("date", "caption", "watermark", "small", "rotated", "low-contrast")

_FILES = {name: f"{name}.png" for name in (*HELD_OUT, *TUNING)}
_FILES |= {name: f"{name}.jpg" for name in ("china", "flower", "rocket", "retina", "hubble_deep_field", "grace_hopper")}
_TEXTS = {
    "date": ("2019-07-14", "'03 11 28", "24.12.2007 18:05", "2016/08/30"),
    "caption": ("Sunday morning at the old harbour", "The quick brown fox", "Photo: M. Keller", "Wo waren wir stehen?"),
    "watermark": ("SAMPLE COPY", "© Studio Nord", "PREVIEW", "stock images"),
    "small": ("2019-07-14 12:31", "img_4711.jpg", "Lot 5, Nr. 118", "www.example.org"),
    "rotated": ("Summer 2014", "Draft version", "24.12.2007", "No. 118"),
    "low-contrast": ("Summer 2014", "Photo: M. Keller", "2016/08/30", "Studio Nord"),
}


class Style(NamedTuple):
    """How text is drawn: heights in pixels, *angle* in degrees, *place* as shares of the free width and height."""

    height: float
    fill: tuple[int, int, int]
    opacity: float = 1.0
    outline: float = 0.0
    edge: tuple[int, int, int] = (0, 0, 0)
    glow: float = 0.0
    angle: float = 0.0
    place: tuple[float, float] = (0.5, 0.5)


def photos(names: Iterable[str] = (*TUNING, *HELD_OUT)) -> dict[str, NDArray[np.uint8]]:
    """Return name → (rows, columns, 3) uint8 RGB for those of *names* that are installed here."""
    found = {}
    folders = list(_folders())
    for name in names:
        path = next((folder / _FILES[name] for folder in folders if (folder / _FILES[name]).is_file()), None)
        if path is not None:
            with Image.open(path) as picture:
                found[name] = np.asarray(picture.convert("RGB"))
    return found


def stamp(
    pixels: NDArray[np.uint8],
    text: str | None = None,
    *,
    kind: str = "date",
    seed: int = 0,
    size: float | None = None,
    style: Style | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw *text* on (rows, columns, 3) *pixels*; return the stamped pixels and where the text is.

    The truth is (rows, columns) uint8: the share of each pixel that outline, shadow or letter covers,
    255 = fully (for a semi-transparent watermark too). *kind* is one of KINDS; *seed* chooses text, font,
    colours and place (seed 0 always takes Pillow's own font); *size* is the height of the letters in pixels.
    """
    rng = np.random.default_rng(seed)
    rows, columns = pixels.shape[:2]
    if text is None:
        text = _TEXTS[kind][int(rng.integers(len(_TEXTS[kind])))]
    style = style or _style(kind, pixels, rng)
    height = size or style.height
    letters = _letters(text, _font(seed, height), style)
    # text never runs out of the picture: it is drawn smaller, and never below what is legible
    while height > 8 and (letters[0].width > 0.96 * columns or letters[0].height > 0.96 * rows):
        height *= 0.92
        letters = _letters(text, _font(seed, height), style)
    left = round(style.place[0] * (columns - letters[0].width))
    top = round(style.place[1] * (rows - letters[0].height))
    result = Image.fromarray(pixels).copy()
    truth = Image.new("L", (columns, rows))
    for layer, colour, opacity in zip(letters, (style.edge, style.fill), (1.0, style.opacity)):
        whole = Image.new("L", (columns, rows))
        whole.paste(layer, (left, top))
        truth = ImageChops.lighter(truth, whole)
        result.paste(Image.new("RGB", result.size, colour), mask=whole.point(lambda v, o=opacity: round(v * o)))
    return np.asarray(result), np.asarray(truth)


def jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return *pixels* as they look after JPEG at *quality* (1…95)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return np.asarray(picture.convert("RGB"))


def _folders() -> Iterable[Path]:
    """The folders of sample pictures of those packages that are installed."""
    import importlib.util

    inside = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}
    for package, folder in inside.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            yield Path(spec.origin).parent / folder


def _font(seed: int, height: float) -> Any:
    """Return Pillow's own font for seed 0, 4, 8, …, else one of DejaVu's where matplotlib brings them."""
    import importlib.util

    name = (None, "DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif")[seed % 4]
    spec = importlib.util.find_spec("matplotlib") if name else None
    if spec is None or not spec.origin:
        return ImageFont.load_default(height)
    return ImageFont.truetype(str(Path(spec.origin).parent / f"mpl-data/fonts/ttf/{name}.ttf"), height)


def _style(kind: str, pixels: NDArray[np.uint8], rng: np.random.Generator) -> Style:
    rows, columns = pixels.shape[:2]
    unit = float(min(rows, columns))
    corner = (float(rng.choice([0.04, 0.96])), 0.95)
    anywhere = (float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.1, 0.9)))
    if kind == "date":
        styles = (
            Style(max(14, unit * 0.05), (255, 140, 0), place=corner),
            Style(max(14, unit * 0.05), (255, 225, 40), outline=1, edge=(60, 30, 0), place=corner),
            Style(max(14, unit * 0.05), (250, 50, 20), glow=2, edge=(90, 10, 0), place=corner),
        )
        return styles[int(rng.integers(3))]
    if kind == "caption":
        return Style(max(14, unit * 0.055), (255, 255, 255), outline=max(1, unit * 0.003), place=(0.5, 0.94))
    if kind == "watermark":
        angle = float(rng.choice([-30, -20, 20, 30]))
        return Style(unit * 0.12, (255, 255, 255), opacity=float(rng.uniform(0.35, 0.55)), angle=angle)
    if kind == "small":
        return Style(13, (255, 255, 255), outline=1, place=corner)
    if kind == "rotated":
        angle = float(rng.choice([-90, -12, 12, 45, 90]))
        return Style(max(16, unit * 0.06), (250, 250, 120), outline=1, angle=angle, place=anywhere)
    if kind == "low-contrast":
        # a shade of what is there: 40 levels lighter or darker than the picture's mean
        mean = pixels.reshape(-1, 3).mean(axis=0)
        shade = np.clip(mean + (40 if mean.mean() < 128 else -40), 0, 255).astype(int).tolist()
        return Style(max(16, unit * 0.06), (shade[0], shade[1], shade[2]), place=anywhere)
    raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")


def _letters(text: str, font: Any, style: Style) -> tuple[Image.Image, Image.Image]:
    """Return two antialiased coverages of equal size: with outline and glow, and of the letters alone."""
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = probe.multiline_textbbox((0, 0), text, font=font)
    # room for outline and three standard deviations of the glow
    pad = int(np.ceil(style.outline + 3 * style.glow)) + 2
    size = (int(np.ceil(right - left)) + 2 * pad, int(np.ceil(bottom - top)) + 2 * pad)
    layers = []
    for outline in (style.outline, 0.0):
        layer = Image.new("L", size)
        draw = ImageDraw.Draw(layer)
        draw.multiline_text((pad - left, pad - top), text, fill=255, font=font, stroke_width=outline)
        layers.append(layer)
    outer, inner = layers
    if style.glow:
        outer = ImageChops.lighter(outer.filter(ImageFilter.GaussianBlur(style.glow)), inner)
    elif not style.outline:
        outer = Image.new("L", size)
    if style.angle:
        outer, inner = (layer.rotate(style.angle, Image.Resampling.BICUBIC, expand=True) for layer in (outer, inner))
    return outer, inner


def main() -> None:
    """Write a sample photo with a date stamp to the path given, and the photo itself beside it."""
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/sample.py OUT.png")
    clean = photos(["astronaut"])["astronaut"]
    stamped, _ = stamp(clean, "2019-07-14", kind="date", style=Style(26, (255, 140, 0), place=(0.95, 0.95)))
    out = Path(sys.argv[1])
    Image.fromarray(stamped).save(out)
    Image.fromarray(clean).save(out.with_name(f"{out.stem}-truth{out.suffix}"))


if __name__ == "__main__":
    main()
