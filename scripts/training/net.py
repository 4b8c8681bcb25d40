"""The filler network: a small U-Net that mixes deterministic fills and adds what they lack."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: pictures at the input: the fills that are mixed
FILLS = 4
WIDTHS = (40, 72, 104)
#: of the layers at the coarsest level
DILATIONS = (1, 2, 2, 1)


class Filler(nn.Module):
    """Maps FILLS pictures and the mask, (batch, 3·FILLS + 1, rows, columns) in −1…1, to the filled picture.

    The result is two pictures, (batch, 6, rows, columns): a mix of the fills, pixel by pixel, plus a residual, which
    is the likeliest; and the same plus what gives it back its texture. Rows and columns are multiples of 8. No layer
    looks at more than its kernel, so the picture can be worked on in tiles.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.first = nn.Conv2d(4 * (3 * FILLS + 1), fine, 3, padding=1)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.down1 = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(middle, middle, 3, padding=1)
        self.down2 = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(nn.Conv2d(coarse, coarse, 3, padding=d, dilation=d) for d in DILATIONS)
        self.up2 = nn.Conv2d(coarse, middle, 1)
        self.join2 = nn.Conv2d(2 * middle, middle, 3, padding=1)
        self.after2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.up1 = nn.Conv2d(middle, fine, 1)
        self.join1 = nn.Conv2d(2 * fine, fine, 3, padding=1)
        self.after1 = nn.Conv2d(fine, fine, 3, padding=1)
        self.last = nn.Conv2d(fine, 4 * (6 + FILLS), 3, padding=1)
        # training starts at the mean of the fills
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, given: Tensor) -> Tensor:
        a = relu(self.fine(relu(self.first(functional.pixel_unshuffle(given, 2)))))
        b = relu(self.middle(relu(self.down1(a))))
        c = relu(self.down2(b))
        for layer in self.coarse:
            c = c + relu(layer(c))
        b = relu(self.join2(torch.cat([b, doubled(self.up2(c))], 1)))
        b = b + relu(self.after2(b))
        a = relu(self.join1(torch.cat([a, doubled(self.up1(b))], 1)))
        a = a + relu(self.after1(a))
        out = functional.pixel_shuffle(self.last(a), 2)
        weight = torch.softmax(out[:, 6:], 1)
        likely: Any = out[:, :3]
        for i in range(FILLS):
            likely = likely + weight[:, i : i + 1] * given[:, 3 * i : 3 * i + 3]
        return torch.cat([likely, likely + out[:, 3:6]], 1)


def relu(values: Tensor) -> Tensor:
    return functional.relu(values)


def doubled(values: Tensor) -> Tensor:
    return functional.interpolate(values, scale_factor=2, mode="nearest")
