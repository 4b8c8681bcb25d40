"""A linear map from one text encoder's token embeddings to another's, fitted in closed form on paired prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgedit.errors import DataError

#: every fifth prompt is held out for the report, and each other fifth once for the choice of the penalty
FOLDS = 5
FEWEST_PROMPTS = 2 * FOLDS
#: penalties tried, as shares of the mean eigenvalue: from none to one that leaves nothing but the mean
_PENALTIES = np.logspace(-9, 4, 14)
#: a map helps when its held-out error is below this share of the best error without it
HELPS = 0.9
#: embeddings that differ by less than this share of their spread are the same
SAME = 1e-3

Matrix = NDArray[np.float64]


class Map(NamedTuple):
    """Token embeddings x of one encoder, row by row, become (x − *source_mean*) · *weights* + *target_mean*.

    *weights*: (width from, width to) float32. *source_mean*, *target_mean*: (tokens, width), a mean for each position
    in the prompt: what an encoder gives at a place whatever the prompt says, as for the first token, is no matter of
    the map.
    """

    weights: NDArray[np.float32]
    source_mean: NDArray[np.float32]
    target_mean: NDArray[np.float32]

    def apply(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Return (prompts, tokens, width from) *embeddings* in the other encoder's space: (prompts, tokens, width to).

        Raises DataError for embeddings of another shape.
        """
        if embeddings.ndim != 3 or embeddings.shape[1:] != self.source_mean.shape:
            raise DataError(
                f"the map takes {self.source_mean.shape[0]} tokens of {self.source_mean.shape[1]} numbers, "
                f"and these prompts have {' × '.join(map(str, embeddings.shape[1:]))}",
                "make a map of these: imgedit calibrate-prompts --from A --to B PROMPTS.txt -o map.safetensors",
            )
        centred = np.asarray(embeddings, np.float64) - self.source_mean
        return (centred @ self.weights + self.target_mean).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Report:
    """How well a map does on *held_out* of all *prompts*, which took no part in its fit nor in the choice of *penalty*.

    *error*: root of the squared error over the squared spread of the wanted embeddings about their mean at each
    position: 0 is exact, 1 is no better than that mean, which is what one has without any map. *unmapped*: the same
    with the embeddings taken as they are, None where the widths differ. *noise*: root mean square error of a number.
    """

    prompts: int
    held_out: int
    error: float
    noise: float
    penalty: float
    unmapped: float | None = None

    @property
    def same(self) -> bool:
        """Whether the two encoders say the same, so that no map is needed."""
        return self.unmapped is not None and self.unmapped <= SAME

    @property
    def helps(self) -> bool:
        """Whether the map is better than none by a tenth, on prompts that it has not seen."""
        without = 1.0 if self.unmapped is None else min(1.0, self.unmapped)
        return not self.same and self.error < HELPS * without


class _Sums:
    """The normal equations of a fold: what is left of its prompts, whose number then does not matter."""

    def __init__(self, tokens: int, source: int, target: int) -> None:
        self.prompts = 0
        self.xx = np.zeros((source, source))
        self.xy = np.zeros((source, target))
        self.yy = 0.0
        self.x = np.zeros((tokens, source))
        self.y = np.zeros((tokens, target))

    def add(self, x: Matrix, y: Matrix) -> None:
        """Take in (prompts, tokens, width) embeddings of the same prompts."""
        self.prompts += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        x, y = x.reshape(-1, x.shape[2]), y.reshape(-1, y.shape[2])
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += float(np.vdot(y, y))

    def include(self, other: _Sums) -> None:
        """Take in what *other* has."""
        for name in ("prompts", "xx", "xy", "yy", "x", "y"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def about(self, x: Matrix, y: Matrix) -> tuple[Matrix, Matrix, float]:
        """Return XᵀX, XᵀY and the sum of Y² of the embeddings less (tokens, width) means *x* and *y*."""
        n = self.prompts
        crossed = self.x.T @ x
        xx = self.xx - crossed - crossed.T + n * (x.T @ x)
        xy = self.xy - self.x.T @ y - x.T @ self.y + n * (x.T @ y)
        yy = self.yy - 2 * np.vdot(self.y, y) + n * np.vdot(y, y)
        return xx, xy, max(float(yy), 0.0)


def fit(batches: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[Map, Report]:
    """Return the map and how well it does on prompts that it was not fitted on.

    *batches*: pairs of (prompts, tokens, width) embeddings of the same prompts by the two encoders; widths may differ,
    tokens may not. Ridge regression (Hoerl and Kennard 1970) of each token's numbers, centred at each position, in
    float64 on normal equations: memory grows with the widths, not with the number of prompts. Every fifth prompt is
    held out for the report. The penalty is the one of least squared error when each other fifth is predicted from the
    rest (cross-validation by whole prompts, whose tokens say much the same); the map is then fitted on all prompts.
    Raises DataError for fewer than ten prompts, tokens that do not agree, and numbers that are not finite.
    """
    folds: list[_Sums] = []
    seen, apart = 0, 0.0
    shift: tuple[Matrix, Matrix] | None = None
    comparable = True
    for given in batches:
        x, y = (np.asarray(side, np.float64) for side in given)
        _check(x, y)
        if shift is None:
            # sums of what lies about 0: no digits are lost to large constant numbers
            shift = x.mean(axis=0), y.mean(axis=0)
            folds = [_Sums(x.shape[1], x.shape[2], y.shape[2]) for _ in range(FOLDS)]
            comparable = x.shape[2] == y.shape[2]
        fold = (seen + np.arange(len(x))) % FOLDS
        seen += len(x)
        if comparable:
            apart += float(((x - y)[fold == FOLDS - 1] ** 2).sum())
        x, y = x - shift[0], y - shift[1]
        for number, sums in enumerate(folds):
            sums.add(x[fold == number], y[fold == number])
    if shift is None or seen < FEWEST_PROMPTS:
        raise DataError(f"{seen} prompts are too few for a map", f"give at least {FEWEST_PROMPTS}, better some hundred")
    penalty = _choose(folds[:-1])
    error, spread = _held_out(_together(folds[:-1]), folds[-1], penalty)
    numbers = folds[-1].prompts * folds[-1].y.size
    everything = _together(folds)
    x_mean, y_mean = everything.x / everything.prompts, everything.y / everything.prompts
    weights = _ridge(everything, x_mean, y_mean, penalty)
    found = Map(*(side.astype(np.float32) for side in (weights, x_mean + shift[0], y_mean + shift[1])))
    unmapped = _ratio(apart, spread) if comparable else None
    report = Report(seen, folds[-1].prompts, _ratio(error, spread), float(np.sqrt(error / numbers)), penalty, unmapped)
    return found, report


def _check(x: Matrix, y: Matrix) -> None:
    if x.shape[:2] != y.shape[:2]:
        raise DataError(
            f"the encoders cut prompts into {x.shape[1]} and {y.shape[1]} tokens, which cannot be paired",
            "give two models whose prompts have the same number of tokens",
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("an encoder gave embeddings that are not numbers", "compute more precisely: --dtype float32")


def _together(folds: Sequence[_Sums]) -> _Sums:
    tokens, (source, target) = len(folds[0].x), folds[0].xy.shape
    total = _Sums(tokens, source, target)
    for fold in folds:
        total.include(fold)
    return total


def _ratio(error: float, spread: float) -> float:
    """Return the root of *error* over *spread*; where no prompt changes anything, 0 for what is exact and else 1."""
    return float(np.sqrt(error / spread)) if spread > 0 else float(error > 0)


def _ridge(sums: _Sums, x_mean: Matrix, y_mean: Matrix, penalty: float) -> Matrix:
    xx, xy, _ = sums.about(x_mean, y_mean)
    values, vectors = _eigen(xx)
    return np.asarray(vectors @ ((vectors.T @ xy) / (values + penalty * _scale(values))[:, None]))


def _eigen(xx: Matrix) -> tuple[Matrix, Matrix]:
    values, vectors = np.linalg.eigh(xx)
    return np.maximum(values, 0), vectors


def _scale(values: Matrix) -> float:
    # embeddings that no prompt changes leave no eigenvalue: then any penalty will do
    return float(values.mean()) or 1.0


def _errors(train: _Sums, test: _Sums, penalties: Matrix) -> tuple[Matrix, float]:
    """Return the squared error on *test* of the ridge fitted on *train*, for each penalty, and that of the mean.

    With XᵀX = V diag(e) Vᵀ the weights are V diag(1 / (e + λ)) VᵀXᵀY, so that one decomposition serves every λ, and
    the error is a quadratic form of the sums.
    """
    x_mean, y_mean = train.x / train.prompts, train.y / train.prompts
    xx, xy, _ = train.about(x_mean, y_mean)
    test_xx, test_xy, spread = test.about(x_mean, y_mean)
    values, vectors = _eigen(xx)
    turned = vectors.T @ xy
    linear = (turned * (vectors.T @ test_xy)).sum(axis=1)
    square = (turned @ turned.T) * (vectors.T @ test_xx @ vectors)
    found = []
    for penalty in penalties:
        inverse = 1 / (values + penalty * _scale(values))
        found.append(spread - 2 * float(inverse @ linear) + float(inverse @ square @ inverse))
    return np.maximum(found, 0), spread


def _choose(folds: Sequence[_Sums]) -> float:
    """Return the penalty of least squared error over *folds*, each predicted from the others."""
    errors = np.zeros(len(_PENALTIES))
    for fold in folds:
        errors += _errors(_together([other for other in folds if other is not fold]), fold, _PENALTIES)[0]
    return float(_PENALTIES[int(errors.argmin())])


def _held_out(train: _Sums, test: _Sums, penalty: float) -> tuple[float, float]:
    errors, spread = _errors(train, test, np.array([penalty]))
    return float(errors[0]), spread
