"""The tables of the erase benchmark: means and medians by kind, and how far `auto` is ahead of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

#: columns of each table: what stands above it → the kinds it is taken over
TEXT = {"date": ("date",), "caption": ("caption",), "watermark": ("watermark",)}
TEXT["all text"] = tuple(kind for kinds in TEXT.values() for kind in kinds)
SQUARES = {"square 64": ("square 64",), "square 128": ("square 128",)}
SQUARES["all squares"] = tuple(kind for kinds in SQUARES.values() for kind in kinds)
OURS, AUTO, HARMONIC, YARDSTICK = "imgedit ", "imgedit auto", "imgedit harmonic", "mean of four"
#: the yardstick is the mean of what these return: how far fills of different kinds complement each other
MEAN_OF = ("FSR fast", HARMONIC, "skimage biharmonic", "PatchMatch 3")
WIDTH = 22


def group(title: str, results: dict[str, Any], photos: Sequence[str]) -> Iterator[str]:
    """Yield the lines on the cases of *photos*. *results*: method → scores, or why there are none."""
    own = {
        name: [s for s in result.scores if s.photo.split()[0] in photos]
        for name, result in results.items()
        if result.scores
    }
    if not any(own.values()):
        yield f"{title}: nothing measured"
        return
    count = len({s.photo for s in next(iter(own.values()))})
    for columns in (TEXT, SQUARES):
        for word, statistic in (("means", np.mean), ("medians", np.median)):
            yield f"{title} ({count}), {word}: PSNR dB, SSIM, texture"
            yield from _table(results, own, columns, statistic)
            yield ""
    if AUTO in own:
        yield from _gaps(title, own)
        yield from _cases(title, own)


def _table(
    results: dict[str, Any], own: dict[str, list[Any]], columns: dict[str, Any], statistic: Callable[[Any], Any]
) -> Iterator[str]:
    yield " " * WIDTH + "".join(f"{column:^22}" for column in columns) + f"{'ms':>6}{'MiB':>6}{'outside':>9}"
    for name, result in results.items():
        if name not in own:
            yield f"{name:{WIDTH}}  {result.why}"
            continue
        cells = []
        for kinds in columns.values():
            psnr, ssim, texture = summary(own[name], kinds, statistic)
            cells.append(f"{psnr:8.2f}{ssim:7.3f}{texture:6.2f} ")
        rest = [s for s in own[name] if s.kind in kinds]
        ms = 1000 * float(statistic([s.seconds for s in rest]))
        outside = 100 * float(statistic([s.outside for s in rest]))
        yield f"{name:{WIDTH}}" + "".join(cells) + f"{ms:6.0f}{result.mib:6.0f}{outside:8.1f}%"


def summary(scores: list[Any], kinds: Sequence[str], statistic: Callable[[Any], Any] = np.mean) -> list[float]:
    """Return PSNR, SSIM and texture over the scores of *kinds*."""
    rows = [(s.psnr, s.ssim, s.texture) for s in scores if s.kind in kinds]
    return [float(statistic(column)) for column in zip(*rows)]


def best(own: dict[str, list[Any]], kinds: Sequence[str], *, ours: bool) -> str | None:
    """Return the single peer, or backend of ours other than auto, of the highest mean PSNR over *kinds*."""
    names = [n for n in own if n.startswith(OURS) == ours and n not in (AUTO, YARDSTICK)]
    return max(names, key=lambda name: summary(own[name], kinds)[0], default=None)


def _gaps(title: str, own: dict[str, list[Any]]) -> Iterator[str]:
    """How far auto is ahead (+) of the best single peer, and of our best single backend, kind by kind."""
    yield f"{title}: auto − the best by mean PSNR: dB, SSIM"
    yield f"{'':12}{'auto':>7}{'texture':>9}   {'best single peer':46}best single backend"
    for column, kinds in {**TEXT, **SQUARES}.items():
        auto = summary(own[AUTO], kinds)
        cells = []
        for rival in (best(own, kinds, ours=False), best(own, kinds, ours=True)):
            cells.append(_gap(own, rival, kinds) if rival else "none")
        yield f"{column:12}{auto[0]:7.2f}{auto[2]:9.2f}   {cells[0]:46}{cells[1]}"
    kinds = TEXT["all text"]
    peer = best(own, kinds, ours=False)
    if peer:
        psnr, ssim, texture = _difference(own, peer, kinds)
        yield f"text: auto − best peer ({peer}): {psnr:+.2f} dB, {ssim:+.3f} SSIM, texture {texture:.2f}"
    if HARMONIC in own:
        psnr, _, texture = _difference(own, HARMONIC, SQUARES["all squares"])
        yield f"squares: auto − harmonic: {psnr:+.2f} dB, texture {texture:.2f}"
    yield ""


def _gap(own: dict[str, list[Any]], rival: str, kinds: Sequence[str]) -> str:
    psnr, ssim, _ = _difference(own, rival, kinds)
    return f"{psnr:+6.2f} {ssim:+7.3f}  {rival}"


def _difference(own: dict[str, list[Any]], rival: str, kinds: Sequence[str]) -> tuple[float, float, float]:
    """Return by how much auto's PSNR and SSIM are above those of *rival*, and its texture."""
    auto, other = summary(own[AUTO], kinds), summary(own[rival], kinds)
    return auto[0] - other[0], auto[1] - other[1], auto[2]


def _cases(title: str, own: dict[str, list[Any]]) -> Iterator[str]:
    """The same for each picture: the best peer and backend are those of the kind, not of the picture."""
    kinds = [*TEXT, *SQUARES]
    kinds = [kind for kind in kinds if not kind.startswith("all")]
    yield f"{title}, each case: auto − best peer of the kind, dB and SSIM; auto − best backend of the kind, dB"
    yield " " * WIDTH + "".join(f"{kind:^22}" for kind in kinds)
    peers = {kind: best(own, (kind,), ours=False) for kind in kinds}
    backends = {kind: best(own, (kind,), ours=True) for kind in kinds}
    for photo in dict.fromkeys(s.photo for s in own[AUTO]):
        cells = []
        for kind in kinds:
            auto, peer, backend = (
                next((s for s in own.get(name or "", []) if (s.photo, s.kind) == (photo, kind)), None)
                for name in (AUTO, peers[kind], backends[kind])
            )
            ahead = f"{auto.psnr - peer.psnr:+7.2f}{auto.ssim - peer.ssim:+7.3f}" if peer else f"{'–':>14}"
            cells.append(f"{ahead}{auto.psnr - backend.psnr:+7.2f} " if backend else f"{ahead}{'–':>7} ")
        yield f"{photo:{WIDTH}}" + "".join(cells)
    yield ""
