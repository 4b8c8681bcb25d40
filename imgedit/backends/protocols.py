"""What a backend of each kind must offer: one method, and flags as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from imgedit.frame import LatentStats, Pixels, Plane, Region
    from imgedit.jobs import Crop, Enlarged, Geometry, Sampling, Synthesized
    from imgedit.ops.regions import Points


class Flags(Protocol):
    """What every backend says of itself without being loaded.

    *summary*: one line for `imgedit backends`. *requires*: packages that must be importable. *extra*: the
    extra of `pip install 'imgedit[…]'` that brings them; empty when a plain install does.
    *deterministic*: the same input gives the same output, always. A class that is made from a file of weights
    (``--backend NAME:FILE``) says ``takes_file = True``, and is called with the file or the id of a model as text.
    One that runs a model says how a command names it: ``uses = "inpaint --model"``.
    """

    summary: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    deterministic: ClassVar[bool]


class Filled(NamedTuple):
    """A filled crop, the method that filled it, and why this one (for the step's notes).

    *seamless*: it is to be taken as it is; else the step that it leaves along the hole's edge is blended away.
    """

    pixels: Pixels
    method: str
    why: str
    seamless: bool = False


class Filler(Flags, Protocol):
    """Fills the hole in one crop.

    A method may be left out: ``context(mask)`` returns how many pixels round the hole, *mask* > 0, it has a use for,
    where a user asks for less; left out: none.
    """

    #: bits per channel that it computes in; the adapter converts the others
    bit_depths: ClassVar[tuple[int, ...]]

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* (rows, columns, 3) with every pixel where *mask* (rows, columns) > 0 invented anew.

        What the hole held before must not influence the result.
        """
        ...


class Detector(Flags, Protocol):
    """Finds text in one picture (or one tile of it)."""

    #: whether it can also say what the text is
    reads: ClassVar[bool]

    def detect(self, pixels: Pixels, *, read: bool, part: bool = False) -> list[Region]:
        """Return the regions of text in (rows, columns, 3) uint8 *pixels*; with *read*, what each says.

        *part*: this is a tile of a picture that is searched as a whole too, reduced.
        """
        ...


class StrokeFinder(Flags, Protocol):
    """Says where the strokes of the letters in one box are."""

    def likely(self, crop: Plane, polygon: Points) -> NDArray[np.float32]:
        """Return for each pixel of a (rows, columns, 3) uint8 *crop* how likely it is a stroke, 0…1.

        *polygon*: (n, 2) of (x, y), the convex box of the text; far from it the result is 0. (rows, columns) float32.
        """
        ...


class Upscaler(Flags, Protocol):
    """Enlarges a picture.

    Four more flags may be left out. *tiled*: ``upscale`` also takes *resources* (:class:`imgedit.jobs.Resources`),
    works in tiles and keeps the memory target; left out: it does not. *invents*: it adds what the picture does not
    hold, so that its result is taken back where the hint says that the picture was invented already; left out: it does.
    *own*: names of options that ``upscale`` takes besides, as the stage spells them; each is given only where a user
    gave it. *hinted*: ``upscale`` also takes *hint*, (rows, columns) uint8 or None: what it shall not learn from is
    below 255.
    """

    #: the scale of the model itself; None when any scale is native
    native_scale: ClassVar[int | None]
    bit_depths: ClassVar[tuple[int, ...]]

    def upscale(self, pixels: Pixels, rows: int, columns: int, *, sharpen: float) -> Pixels | Enlarged:
        """Return *pixels* enlarged to *rows* × *columns*, same dtype, centre-aligned.

        *pixels*: (rows, columns, 3), or 4 with straight alpha as the last channel; *sharpen*: 0…1.
        """
        ...


class Encoder(Flags, Protocol):
    """Describes pixels by latents."""

    def encode(self, pixels: Pixels) -> LatentStats:
        """Return the latent statistics of (rows, columns, 3) *pixels*."""
        ...


class Synthesizer(Flags, Protocol):
    """Invents what a prompt says where the mask is, on crops of the model's size."""

    def geometry(self, sampling: Sampling) -> Geometry:
        """Return what the model asks of crops; reads its configuration, not its weights."""
        ...

    def most(self, sampling: Sampling, rows: int, columns: int) -> int:
        """Return how many crops of this size may go through the model at once within the memory target, at least 1."""
        ...

    def synthesize(self, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        """Return one result for each of *crops*, all of one size; none depends on what else is in the list."""
        ...

    def model(self, sampling: Sampling) -> Mapping[str, str]:
        """Return what identifies the model for the record of a step: id, revision, digests of its weights."""
        ...
