"""What a backend of each kind must offer: one method, and flags as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from imgedit.frame import LatentStats, Pixels, Plane, Region


class Flags(Protocol):
    """What every backend says of itself without being loaded.

    *summary*: one line for `imgedit backends`. *requires*: packages that must be importable. *extra*: the
    extra of `pip install 'imgedit[…]'` that brings them; empty when a plain install does.
    *deterministic*: the same input gives the same output, always.
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
    """Fills the hole in one crop."""

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


class Upscaler(Flags, Protocol):
    """Enlarges a picture."""

    #: the scale of the model itself; None when any scale is native
    native_scale: ClassVar[int | None]
    bit_depths: ClassVar[tuple[int, ...]]

    def upscale(self, pixels: Pixels, rows: int, columns: int, *, sharpen: float) -> Pixels:
        """Return *pixels* enlarged to *rows* × *columns*, same dtype, centre-aligned.

        *pixels*: (rows, columns, 3), or 4 with straight alpha as the last channel; *sharpen*: 0…1.
        """
        ...


class Encoder(Flags, Protocol):
    """Describes pixels by latents."""

    def encode(self, pixels: Pixels) -> LatentStats:
        """Return the latent statistics of (rows, columns, 3) *pixels*."""
        ...
