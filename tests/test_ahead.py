"""Several pictures under way at once: same order, same results, same errors, bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sample
from PIL import Image

from imgedit import codec
from imgedit.cli import ahead, batch
from imgedit.cli.sinks import Folder
from imgedit.cli.sources import Source
from imgedit.engine import call
from imgedit.errors import DataError, PartialFailure


@dataclass
class Item:
    number: int
    pixels: int


class Counter:
    """Runs items for a moment, and counts how many are under way; those taken in and not yet handed on too."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.lock = sizes, threading.Lock()
        self.running = self.most_running = self.taken = 0

    def items(self) -> Iterator[Item]:
        for number, pixels in enumerate(self.sizes):
            self.taken += 1
            yield Item(number, pixels)

    def run(self, item: Item) -> int:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        time.sleep(0.01 * (1 + item.number % 3))
        with self.lock:
            self.running -= 1
        return item.number * 10


def test_the_order_stays_and_few_are_held() -> None:
    counter = Counter([1] * 20)
    done = 0
    for item, result in ahead.ordered(counter.items(), counter.run, 3):
        assert result == 10 * item.number == 10 * done
        done += 1
        assert counter.taken - done <= 4
    assert done == 20 and 2 <= counter.most_running <= 3


def test_large_ones_are_worked_on_alone() -> None:
    counter = Counter([60] * 6)
    assert [result for _, result in ahead.ordered(counter.items(), counter.run, 4, most=100)] == [*range(0, 60, 10)]
    assert counter.most_running == 1


def test_an_error_comes_in_its_turn() -> None:
    def run(item: Item) -> int:
        if item.number == 3:
            raise DataError("broken", "mend it")
        time.sleep(0.02)
        return item.number

    done = []
    with pytest.raises(DataError, match="broken"):
        for _, result in ahead.ordered(iter([Item(n, 1) for n in range(9)]), run, 2):
            done.append(result)
    assert done == [0, 1, 2]


def test_nothing_gives_nothing() -> None:
    assert not list(ahead.ordered(iter(()), lambda item: item, 2))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Source]:
    """Five pictures with a stamp and its mask; the third is damaged."""
    photo = sample.photos(["coins"])["coins"]
    for number in range(5):
        given, drawn = sample.stamp(photo[:120, 30 * number : 30 * number + 160], "07-14", seed=number, size=16)
        Image.fromarray(given).save(tmp_path / f"{number}.png")
        Image.fromarray((drawn > 0).astype(np.uint8) * 255).save(tmp_path / f"{number}.mask.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nthis is none")
    return [Source(tmp_path / f"{number}.png") for number in range(5)]


@pytest.mark.parametrize("keep_going", [True, False])
def test_a_folder_ends_as_one_by_one(
    keep_going: bool, pictures: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for cores in (1, 2):
        monkeypatch.setattr(ahead, "cores", lambda cores=cores: cores)
        out = tmp_path / f"out{cores}"
        out.mkdir()
        calls = [call("erase", backend="harmonic")]
        run = batch.Batch(calls, pictures, Folder(out), codec.Limits(), keep_going=keep_going, quiet=True)
        assert run._several() == (cores == 2)
        if keep_going:
            assert run.run() == PartialFailure("", "").exit_code
        else:
            with pytest.raises(DataError):
                run.run()
        results.append({path.name: np.asarray(Image.open(path)).tobytes() for path in sorted(out.glob("*.png"))})
    assert results[0] == results[1]
    assert {name[0] for name in results[0]} == set("0134" if keep_going else "01")
