"""Pictures with masks for the tests of preflight: clean ones as users make them, and failures of every kind.

Real photos, cut and scaled at random, with drawn text or pasted objects whose truth is known. A case counts as a
failure only where it does harm: filled with its mask, the picture is clearly further from the truth than with a good
mask.
Kinds whose harm is not one of the mask (blur, blocks, noise, clipping) are made strong enough to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sample import KINDS, Style, jpeg, photos, stamp

from imgedit.ops import glyph, masks
from imgedit.ops.harmonic import harmonic

Array = NDArray[Any]
Rng = np.random.Generator

#: photos to choose thresholds by, and others to confirm them on; `moon` is in neither: its file shows 8×8 blocks
CHOOSE = ("grace_hopper", "ihc", "hubble_deep_field", "grass", "camera", "motorcycle_left", "brick")
CONFIRM = ("retina", "gravel", "coins")

#: tries to make a case do harm before the kind is given up on this photo
TRIES = 8


class Case(NamedTuple):
    """A picture with its mask. *kind*: clean, or a key of FAILURES; *codes*: any of them counts as caught."""

    kind: str
    made: str
    pixels: Array
    mask: Array
    codes: tuple[str, ...] = ()
    grid: int | None = None


class Scene(NamedTuple):
    """A photo with something to erase: *given* has it, *truth* has not; *drawn* is what it covers, 0…255."""

    truth: Array
    given: Array
    drawn: Array
    kind: str

    @property
    def good(self) -> Array:
        """A mask that covers all of it, and 2 pixels more."""
        return grown(self.drawn > 8, 2)


# --- scenes ----------------------------------------------------------------------------------------------


def cut(photo: Array, rng: Rng) -> Array:
    """Return a random part of *photo* at a random size, 300 to 480 pixels a side."""
    rows, columns = (int(v) for v in rng.integers(300, 481, 2))
    least = max(rows / photo.shape[0], columns / photo.shape[1])
    # photos are made smaller, hardly larger: that would blur them
    scale = max(least, float(rng.uniform(0.45, 1.0)))
    if scale > 1.1:
        scale = 1.1
        rows, columns = min(rows, int(photo.shape[0] * 1.1)), min(columns, int(photo.shape[1] * 1.1))
    size = (max(columns, round(photo.shape[1] * scale)), max(rows, round(photo.shape[0] * scale)))
    if scale != 1:
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top = int(rng.integers(photo.shape[0] - rows + 1))
    left = int(rng.integers(photo.shape[1] - columns + 1))
    part = photo[top : top + rows, left : left + columns]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def texts(photo: Array, rng: Rng, kind: str | None = None) -> Scene:
    """Return a cut of *photo* with text of a random kind and size."""
    truth = cut(photo, rng)
    kind = kind or str(rng.choice(KINDS))
    size = None if rng.random() < 0.5 or kind == "watermark" else float(rng.uniform(14, 40))
    given, drawn = stamp(truth, kind=kind, seed=int(rng.integers(1 << 16)), size=size)
    return Scene(truth, given, drawn, kind)


def legible(photo: Array, rng: Rng, kinds: tuple[str, ...] = ("date", "caption", "small", "rotated")) -> Scene:
    """Return a scene whose text stands out from the photo."""
    for _ in range(TRIES):
        scene = texts(photo, rng, str(rng.choice(kinds)))
        if error(scene.given, scene.truth, scene.drawn > 128) > 50:
            break
    return scene


def pasted(photo: Array, rng: Rng) -> Scene:
    """Return a cut of *photo* with a disc, blob or sticker pasted where no strong edge of the photo runs."""
    truth = cut(photo, rng)
    rows, columns = truth.shape[:2]
    radius = int(rng.integers(12, 45))
    shape = blob(rows, columns, radius, rng)
    colour = rng.integers(0, 256, 3)
    pattern = colour + rng.normal(0, 12, (rows, columns, 3)) + 40 * np.sin(np.arange(columns) / 4)[None, :, None]
    alpha = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), 0.7)[..., None]
    given = np.clip(truth * (1 - alpha) + np.clip(pattern, 0, 255) * alpha, 0, 255).astype(np.uint8)
    return Scene(truth, given, np.rint(alpha[..., 0] * 255).astype(np.uint8), "object")


def scratched(photo: Array, rng: Rng) -> Scene:
    """Return a cut of *photo* with a few bright scratches, 2 to 4 pixels wide."""
    truth = cut(photo, rng)
    rows, columns = truth.shape[:2]
    drawn = np.zeros((rows, columns), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        x = np.linspace(*np.sort(rng.uniform(0.05, 0.95, 2)) * columns, 40)
        y = rng.uniform(0.1, 0.9) * rows + rng.uniform(-0.4, 0.4) * (x - x.mean())
        y += rng.uniform(0, 8) * np.sin(x / rng.uniform(15, 40))
        line = np.rint(np.stack([x, y], axis=1)).astype(np.int32)
        cv2.polylines(drawn, [line], False, 255, int(rng.integers(2, 5)), cv2.LINE_AA)
    alpha = drawn[..., None] / 255
    level = 245 if truth.mean() < 150 else 15
    return Scene(truth, np.rint(truth * (1 - alpha) + level * alpha).astype(np.uint8), drawn, "scratch")


def blob(rows: int, columns: int, radius: int, rng: Rng, inside: float = 0.15) -> Array:
    """Return a smooth shape of about *radius* pixels, boolean, away from the border by a share of the size."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    cy, cx = (float(rng.uniform(inside, 1 - inside)) * n for n in (rows, columns))
    angle = np.arctan2(y - cy, x - cx)
    wave = 1 + 0.15 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.1 * np.sin(3 * angle + rng.uniform(0, 6))
    return np.asarray(np.hypot(y - cy, (x - cx) * rng.uniform(0.6, 1.6)) < radius * wave)


def grown(mask: Array, reach: int) -> Array:
    """Return *mask* > 0 as 0 or 255, dilated by *reach* pixels."""
    return masks.dilate((mask > 0).astype(np.uint8) * 255, reach)


def error(given: Array, truth: Array, region: Array) -> float:
    """Return the root mean square difference over *region*, levels."""
    return float(np.sqrt(np.square(given[region].astype(np.float32) - truth[region]).mean())) if region.any() else 0.0


def repaired(given: Array, mask: Array) -> Array:
    """Return *given* with the harmonic fill blended in by *mask*."""
    weight = mask[..., None] / 255
    return np.asarray(given * (1 - weight) + harmonic(given, mask) * weight)


def harm(scene: Scene, mask: Array, good: Array | None = None, given: Array | None = None) -> tuple[float, float]:
    """Return the error of the repair by *mask*, and by the good mask, over all that either covers."""
    good = scene.good if good is None else good
    region = grown((mask > 0) | (good > 0) | (scene.drawn > 0), 2) > 0
    spoilt = repaired(scene.given if given is None else given, mask)
    return error(spoilt, scene.truth, region), error(repaired(scene.given, good), scene.truth, region)


def hurts(scene: Scene, mask: Array, good: Array | None = None, factor: float = 1.3, levels: float = 3) -> bool:
    if not mask.any() or mask.all():
        return False
    bad, fair = harm(scene, mask, good)
    return bad > factor * fair and bad > fair + levels


# --- clean cases -----------------------------------------------------------------------------------------


def box_of(drawn: Array, margin: int) -> Array:
    """Return the upright box of *drawn* with *margin* pixels, as a mask."""
    mask = np.zeros(drawn.shape, np.uint8)
    x, y, w, h = cv2.boundingRect((drawn > 8).astype(np.uint8))
    mask[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin] = 255
    return mask


def polygon_of(drawn: Array, margin: float) -> Array:
    """Return the corners of the smallest turned box round *drawn*, with *margin* pixels."""
    points = np.argwhere(drawn > 8)[:, ::-1].astype(np.float32)
    centre, size, angle = cv2.minAreaRect(points)
    return np.asarray(cv2.boxPoints((centre, (size[0] + 2 * margin, size[1] + 2 * margin), angle)) + 0.5)


def fitted(scene: Scene, rng: Rng) -> Array | None:
    """Return the mask as `mask --fit glyph` draws it, or None where it misses some of the text."""
    mask = np.zeros(scene.drawn.shape, np.uint8)
    glyph.draw(mask, scene.given, polygon_of(scene.drawn, float(rng.uniform(1, 4))).astype(np.float64))
    mask = masks.dilate(mask, 2)
    text = scene.drawn > 40
    return mask if np.count_nonzero(mask[text]) >= 0.995 * np.count_nonzero(text) else None


def clean_text(photo: Array, rng: Rng) -> tuple[str, Array, Array, int | None] | None:
    scene = texts(photo, rng)
    made = str(rng.choice(["truth", "truth", "fitted", "fitted", "box", "polygon", "grid", "feather", "jpeg", "two"]))
    given, grid = scene.given, None
    mask: Array | None = grown(scene.drawn > 8, int(rng.integers(1, 4)))
    assert mask is not None
    if made == "fitted":
        mask = fitted(scene, rng)
    elif made == "box":
        if scene.kind in ("rotated", "watermark"):
            return None  # nobody takes an upright box there
        mask = box_of(scene.drawn, int(rng.integers(2, 8)))
    elif made == "polygon":
        mask = np.zeros(scene.drawn.shape, np.uint8)
        masks.draw(mask, polygon_of(scene.drawn, float(rng.uniform(2, 6))).astype(np.float64))
    elif made == "grid":
        grid = 8
        mask = masks.to_grid(mask, 8, 0)
    elif made == "feather":
        mask = masks.feather(mask, float(rng.uniform(1, 4)))
    elif made == "jpeg":
        given = jpeg(given, int(rng.integers(88, 97)))
        mask = grown(scene.drawn > 8, 2)
    elif made == "two":
        given, more = stamp(given, kind=str(rng.choice(("date", "small", "rotated"))), seed=int(rng.integers(1 << 16)))
        mask |= grown(more > 8, 2)
    if mask is None or crossed(scene.truth, mask):
        return None
    return f"{scene.kind} {made}", given, mask, grid


def clean_object(photo: Array, rng: Rng) -> tuple[str, Array, Array, int | None] | None:
    scene = pasted(photo, rng) if rng.random() < 0.7 else scratched(photo, rng)
    mask = grown(scene.drawn > 8, int(rng.integers(2, 6) if scene.kind == "object" else rng.integers(1, 3)))
    return None if crossed(scene.truth, mask) else (scene.kind, scene.given, mask, None)


def crossed(truth: Array, mask: Array) -> bool:
    """Tell whether some structure of the photo crosses a wide hole: a failure of its own."""
    return reach(mask) >= 13 and structure_lost(truth, mask) > 14


def reach(mask: Array) -> float:
    """Return how deep the mask is at most, pixels."""
    return float(cv2.distanceTransform(np.pad((mask > 0).view(np.uint8), 1), cv2.DIST_L2, 3).max())


def structure_lost(truth: Array, mask: Array) -> float:
    """Return the error of the repair that is not one of fine texture: after a blur of a quarter of its depth."""
    filled = repaired(truth, mask)
    both = [cv2.GaussianBlur(np.asarray(p, np.float32), (0, 0), max(reach(mask) / 4, 1)) for p in (filled, truth)]
    return error(both[0], both[1], mask > 0)


def clean(photo: Array, rng: Rng) -> Case:
    """Return a case that nothing is wrong with."""
    while True:
        made = clean_text(photo, rng) if rng.random() < 0.75 else clean_object(photo, rng)
        if made is not None:
            return Case("clean", *made[:3], grid=made[3])


# --- failures --------------------------------------------------------------------------------------------


def empty(photo: Array, rng: Rng) -> Case:
    given = texts(photo, rng).given
    return Case("empty", "", given, np.zeros(given.shape[:2], np.uint8), ("IE101",))


def everything(photo: Array, rng: Rng) -> Case:
    given = texts(photo, rng).given
    return Case("everything", "", given, np.full(given.shape[:2], int(rng.integers(1, 256)), np.uint8), ("IE102",))


def inverted(photo: Array, rng: Rng) -> Case:
    made = clean(photo, rng)
    return Case("inverted", made.made, made.pixels, 255 - made.mask, ("IE103",))


def too_large(photo: Array, rng: Rng) -> Case:
    given = texts(photo, rng).given
    rows, columns = given.shape[:2]
    share = float(rng.uniform(0.34, 0.95))
    height, width = round(rows * share**0.5), round(columns * share**0.5)
    top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    mask = np.zeros((rows, columns), np.uint8)
    mask[top : top + height, left : left + width] = 255
    share = float((mask > 0).mean())
    codes = ("IE104", "IE103") if share > 0.75 else ("IE105",)
    return Case("too large", f"{share:.0%}", given, mask, codes)


def specks(photo: Array, rng: Rng) -> Case:
    made = clean(photo, rng)
    mask = made.mask.copy()
    free = grown(mask, 12) == 0
    places = np.argwhere(free[:-3, :-3])
    count = int(rng.integers(3, 60))
    for y, x in places[rng.integers(len(places), size=count)]:
        mask[y : y + int(rng.integers(1, 4)), x : x + int(rng.integers(1, 4))] = 255
    return Case("specks", f"{count}", made.pixels, mask, ("IE106",))


def hairlines(photo: Array, rng: Rng) -> Case | None:
    scene = legible(photo, rng) if rng.random() < 0.7 else scratched(photo, rng)
    if rng.random() < 0.5:  # only the outline of what is to go
        solid = (scene.drawn > 128).astype(np.uint8) * 255
        mask = solid - cv2.erode(solid, np.ones((3, 3), np.uint8))
    else:  # only its core
        mask = (thin(scene.drawn > 128)).astype(np.uint8) * 255
    return Case("hairlines", scene.kind, scene.given, mask, ("IE115",)) if hurts(scene, mask) else None


def thin(shape: Array) -> Array:
    """Return the ridge of the distance transform: lines one or two pixels wide."""
    depth = cv2.distanceTransform(shape.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray((depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)) - 0.3))


def jagged(photo: Array, rng: Rng) -> Case | None:
    scene = legible(photo, rng, ("date", "caption", "rotated")) if rng.random() < 0.7 else pasted(photo, rng)
    tight = grown(scene.drawn > 128, 1)
    rows, columns = tight.shape
    if rng.random() < 0.5:  # from a smaller picture
        scale = int(rng.integers(3, 7))
        small = cv2.resize(tight, (-(-columns // scale), -(-rows // scale)), interpolation=cv2.INTER_NEAREST)
        mask = small.repeat(scale, axis=0).repeat(scale, axis=1)[:rows, :columns]
        made = f"blocks of {scale}"
    else:  # from a noisy threshold
        signed = cv2.distanceTransform((tight > 0).view(np.uint8), cv2.DIST_L2, 3)
        signed -= cv2.distanceTransform((tight == 0).view(np.uint8), cv2.DIST_L2, 3)
        noise = cv2.GaussianBlur(rng.normal(0, 1, tight.shape).astype(np.float32), (0, 0), float(rng.uniform(0.4, 0.9)))
        mask = (signed > float(rng.uniform(1.5, 3)) * noise / noise.std()).astype(np.uint8) * 255
        mask[np.abs(signed) > 5] = tight[np.abs(signed) > 5]
        made = "noise"
    return Case("jagged", made, scene.given, mask, ("IE116",)) if hurts(scene, mask, factor=1.15, levels=2) else None


def border(photo: Array, rng: Rng) -> Case | None:
    scene = texts(photo, rng)
    mask = grown(scene.drawn > 8, 2)
    x, y, w, h = cv2.boundingRect(mask)
    rows, columns = mask.shape
    # cut through the text
    left, top = (x + w // 3, 0) if rng.random() < 0.5 else (0, y + h // 3)
    right, bottom = columns, rows
    if rng.random() < 0.5:
        left, right = columns - right, columns - left if left == 0 else x + w - w // 3
        top, bottom = 0, rows if top == 0 else y + h - h // 3
    part = (slice(top, bottom), slice(left, right))
    sides = mask[part][0], mask[part][-1], mask[part][:, 0], mask[part][:, -1]
    if not any(side.any() for side in sides):
        return None  # cut between two letters
    return Case("border", scene.kind, np.ascontiguousarray(scene.given[part]), mask[part].copy(), ("IE108",))


def little_context(photo: Array, rng: Rng) -> Case:
    """A hole with hardly anything round it: of a picture cut too close, or in a narrow strip of one."""
    given = cut(photo, rng)
    strip = rng.random() < 0.5
    height, width = (int(rng.integers(30, 60)), int(rng.integers(120, 160))) if strip else rng.integers(60, 220, 2)
    least = min(height, width)
    rims = [int(rng.integers(0, max(2, least // 12))) for _ in range(4)]
    if strip:
        rims[2], rims[3] = 3 * width // 4, 3 * width // 4
    rows, columns = height + rims[0] + rims[1] + 1, min(width + rims[2] + rims[3], given.shape[1])
    top, left = int(rng.integers(given.shape[0] - rows)), int(rng.integers(given.shape[1] - columns + 1))
    mask = np.zeros((rows, columns), np.uint8)
    mask[rims[0] : rims[0] + height, rims[2] : rims[2] + width] = 255
    part = np.ascontiguousarray(given[top : top + rows, left : left + columns])
    codes = ("IE109",) if strip else ("IE109", "IE102", "IE103", "IE104")
    return Case("little context", "strip" if strip else "cut", part, mask, codes)


def blurred(photo: Array, rng: Rng) -> Case | None:
    truth = cut(photo, rng)
    sigma = float(rng.uniform(2, 6))
    soft = cv2.GaussianBlur(truth, (0, 0), sigma)
    given, drawn = stamp(soft, kind=str(rng.choice(("date", "caption", "rotated"))), seed=int(rng.integers(1 << 16)))
    mask = grown(drawn > 8, 2)
    # where there was nothing sharp, nothing is lost
    near = (grown(mask, 24) > 0) & (mask == 0)
    if error(soft, truth, near) < 6:
        return None
    return Case("blurred", f"{sigma:.1f}", given, mask, ("IE110",))


def blocky(photo: Array, rng: Rng) -> Case | None:
    scene = legible(photo, rng)
    quality = int(rng.integers(5, 31))
    given = jpeg(scene.given, quality)
    mask = grown(scene.drawn > 8, 1)
    bad, fair = harm(scene, mask, mask, given)
    if bad < 1.1 * fair:
        return None
    shift = rng.integers(0, 8, 2)  # cut after it was compressed
    given, mask = given[shift[0] :, shift[1] :], mask[shift[0] :, shift[1] :]
    return Case("blocky", f"{quality}", np.ascontiguousarray(given), mask.copy(), ("IE111",))


def clipped(photo: Array, rng: Rng) -> Case | None:
    truth = cut(photo, rng).astype(np.float32)
    gain = float(rng.uniform(1.5, 5))
    truth = 255 - (255 - truth) * gain if rng.random() < 0.5 else truth * gain
    burnt = np.clip(truth, 0, 255).astype(np.uint8)
    given, drawn = stamp(burnt, kind=str(rng.choice(("date", "caption", "rotated"))), seed=int(rng.integers(1 << 16)))
    mask = grown(drawn > 8, 2)
    near = (grown(mask, 32) > 0) & (mask == 0)
    lost = ((burnt[near] == 0) | (burnt[near] == 255)).all(axis=1).mean()
    return Case("clipped", f"{lost:.0%}", given, mask, ("IE120",)) if lost > 0.4 else None


def noisy(photo: Array, rng: Rng) -> Case:
    scene = texts(photo, rng, str(rng.choice(("date", "caption", "rotated"))))
    sigma = float(rng.uniform(14, 40))
    channels = 3 if rng.random() < 0.5 else 1
    noise = rng.normal(0, sigma, (*scene.drawn.shape, channels))
    given = np.clip(scene.given + noise, 0, 255).astype(np.uint8)
    return Case("noisy", f"{sigma:.0f}", given, scene.good, ("IE121",))


def edge(photo: Array, rng: Rng) -> Case | None:
    """A hole that a strong straight edge, or a bar, crosses."""
    truth = cut(photo, rng)
    rows, columns = truth.shape[:2]
    mask = np.asarray(blob(rows, columns, int(rng.integers(22, 50)), rng), np.uint8) * 255
    cy, cx = np.argwhere(mask).mean(axis=0)
    angle = float(rng.uniform(0, np.pi))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    away = (x - cx) * np.sin(angle) - (y - cy) * np.cos(angle) + rng.uniform(-5, 5)
    width = float(rng.uniform(6, 30)) if rng.random() < 0.5 else 1e4
    share = np.clip(away + 0.5, 0, 1) * np.clip(width - away + 0.5, 0, 1)
    level = 20 if truth[mask > 0].mean() > 110 else 230
    share = (share * float(rng.uniform(0.6, 1)))[..., None]
    crossed = np.rint(truth * (1 - share) + level * share).astype(np.uint8)
    if structure_lost(crossed, mask) < max(20, 1.5 * structure_lost(truth, mask)):
        return None
    return Case("edge", "bar" if width < 100 else "edge", crossed, mask, ("IE112",))


def tight(photo: Array, rng: Rng) -> Case | None:
    scene = legible(photo, rng) if rng.random() < 0.8 else pasted(photo, rng)
    mask = (scene.drawn > int(rng.integers(100, 230))).astype(np.uint8) * 255
    codes = ("IE113", "IE115")
    return Case("tight", scene.kind, scene.given, mask, codes) if hurts(scene, mask) else None


def soft(photo: Array, rng: Rng) -> Case | None:
    scene = legible(photo, rng)
    mask = (scene.good * float(rng.uniform(0.3, 0.9))).astype(np.uint8)
    return Case("soft", scene.kind, scene.given, mask, ("IE114",)) if hurts(scene, mask) else None


def two_objects(photo: Array, rng: Rng) -> Case | None:
    """One box over two things that lie apart."""
    truth = cut(photo, rng)
    rows, columns = truth.shape[:2]
    given, drawn = truth, np.zeros((rows, columns), np.uint8)
    beside = rng.random() < 0.5
    for k in range(2):
        place = (float(rng.uniform(0.05, 0.15)), float(rng.uniform(0.4, 0.5)))
        place = place if k == 0 else (1 - place[0], place[1] + float(rng.uniform(-0.05, 0.05)))
        place = place if beside else (place[1], place[0])
        colour = (255, 255, 255) if truth.mean() < 130 else (0, 0, 0)
        style = Style(float(rng.uniform(16, 30)), colour, outline=float(rng.integers(0, 2)), place=place)
        text = ("18:05", "No. 4", "2016", "Lot 5")[int(rng.integers(4))]
        given, more = stamp(given, text, seed=int(rng.integers(1 << 16)), style=style)
        drawn = np.maximum(drawn, more)
    scene = Scene(truth, given, drawn, "two")
    mask = box_of(drawn, 3)
    if (mask > 0).mean() > 0.3:
        return None
    good = grown(drawn > 8, 2)
    codes = ("IE117",)
    made = "beside" if beside else "above"
    return Case("two objects", made, given, mask, codes) if hurts(scene, mask, good) else None


def misaligned(photo: Array, rng: Rng) -> Case | None:
    """A mask of the strokes that lies beside them, or was made at another scale."""
    scene = legible(photo, rng)
    rows, columns = scene.drawn.shape
    good = grown(scene.drawn > 8, int(rng.integers(1, 4)))
    if rng.random() < 0.7:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(3, 14)
        matrix = np.array([[1, 0, far * np.cos(angle)], [0, 1, far * np.sin(angle)]])
        made = f"by {far:.0f}"
    else:
        scale = float(rng.choice((rng.uniform(0.9, 0.97), rng.uniform(1.03, 1.1))))
        matrix = np.array([[scale, 0, 0], [0, scale, 0]])
        made = f"times {scale:.2f}"
    mask = cv2.warpAffine(good, matrix, (columns, rows), flags=cv2.INTER_NEAREST)
    if np.count_nonzero(mask) < 0.9 * np.count_nonzero(good):
        return None
    codes = ("IE118", "IE122", "IE113")
    return Case("misaligned", made, scene.given, mask, codes) if hurts(scene, mask) else None


def left_outside(photo: Array, rng: Rng) -> Case | None:
    """Some of the text is outside: its box is too small, its end or some letters are missing."""
    scene = legible(photo, rng, ("date", "caption", "small"))
    x, y, w, h = cv2.boundingRect((scene.drawn > 8).astype(np.uint8))
    made = str(rng.choice(("box", "low box", "end", "letters")))
    mask = scene.good
    if made == "box":
        mask = box_of(scene.drawn, int(rng.integers(2, 5)))
        lost = round(w * float(rng.uniform(0.1, 0.6)))
        mask[:, x + w - lost :] = 0
        if rng.random() < 0.5:
            mask = box_of(scene.drawn, int(rng.integers(2, 5)))
            mask[:, : x + lost] = 0
    elif made == "low box":
        mask = box_of(scene.drawn, 3)
        lost = round(h * float(rng.uniform(0.25, 0.5)))
        mask[(slice(0, y + lost) if rng.random() < 0.5 else slice(y + h - lost, None))] = 0
    elif made == "end":
        mask[:, x + w - round(w * float(rng.uniform(0.15, 0.6))) :] = 0
    else:
        count, labels = cv2.connectedComponents((scene.drawn > 40).astype(np.uint8), connectivity=8)
        if count < 5:
            return None
        keep = rng.permutation(np.arange(1, count))[: max(2, round((count - 1) * float(rng.uniform(0.4, 0.8))))]
        mask = grown(np.isin(labels, keep), 2)
    codes = ("IE122", "IE118")
    return Case("text left", made, scene.given, mask, codes) if hurts(scene, mask) else None


FAILURES: dict[str, Callable[[Array, Rng], Case | None]] = {
    "empty": empty,
    "everything": everything,
    "inverted": inverted,
    "too large": too_large,
    "specks": specks,
    "hairlines": hairlines,
    "jagged": jagged,
    "border": border,
    "little context": little_context,
    "blurred": blurred,
    "blocky": blocky,
    "clipped": clipped,
    "noisy": noisy,
    "edge": edge,
    "tight": tight,
    "soft": soft,
    "two objects": two_objects,
    "misaligned": misaligned,
    "text left": left_outside,
}


def cases(names: tuple[str, ...], seed: int, count: int, kinds: tuple[str, ...] | None = None) -> Iterator[Case]:
    """Yield *count* cases of each kind (all, and "clean") from the photos *names* in turn, by *seed*.

    A kind that does no harm on a photo within TRIES tries is left out there.
    """
    pictures = list(photos(names).values())
    for number, kind in enumerate(("clean", *FAILURES)):
        if kinds is not None and kind not in kinds:
            continue
        make = clean if kind == "clean" else FAILURES[kind]
        for k in range(count):
            rng = np.random.default_rng((seed, number, k))
            for _ in range(TRIES):
                case = make(pictures[k % len(pictures)], rng)
                if case is not None:
                    yield case
                    break
