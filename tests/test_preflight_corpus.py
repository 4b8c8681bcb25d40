"""Preflight on photos and seeds that chose none of its thresholds: failures caught, clean cases left alone."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from corpus import CHOOSE, CONFIRM, FAILURES, Case, cases

from imgedit.ops import preflight

SEED = 2001
EACH = 24
CLEAN = 180
#: of a kind, at least; the mean over all kinds must be higher
LEAST = 0.7


@cache
def judged(kind: str) -> list[tuple[Case, dict[str, str]]]:
    """Return the cases of *kind*, each with code → severity of what preflight finds."""
    seed, count = (SEED + 1, CLEAN) if kind == "clean" else (SEED, EACH)
    made = cases(CONFIRM, seed, count, (kind,))
    return [(c, {r.code: r.severity for r in preflight.check(c.pixels, c.mask, grid=c.grid)}) for c in made]


def caught(kind: str) -> float:
    found = judged(kind)
    return sum(bool(set(case.codes) & set(codes)) for case, codes in found) / len(found)


def test_thresholds_are_confirmed_on_other_photos() -> None:
    assert not set(CHOOSE) & set(CONFIRM)


@pytest.mark.parametrize("kind", FAILURES)
def test_each_kind_of_failure_is_caught(kind: str) -> None:
    assert len(judged(kind)) >= 0.8 * EACH
    missed = [case.made for case, codes in judged(kind) if not set(case.codes) & set(codes)]
    assert caught(kind) >= LEAST, missed


def test_95_percent_of_all_failures_are_caught() -> None:
    rates = {kind: caught(kind) for kind in FAILURES}
    assert sum(rates.values()) / len(rates) >= 0.95, rates


def test_at_most_3_percent_of_clean_cases_are_warned_of() -> None:
    alarms = Counter(code for _, codes in judged("clean") for code, severity in codes.items() if severity != "info")
    warned = sum(any(severity != "info" for severity in codes.values()) for _, codes in judged("clean"))
    assert len(judged("clean")) == CLEAN
    assert warned <= 0.03 * CLEAN, alarms


def test_no_clean_case_is_refused() -> None:
    assert not [case.made for case, codes in judged("clean") if "error" in codes.values()]


def test_info_is_rare_on_clean_cases() -> None:
    """Codes that are no alarm say something all the same."""
    seen = Counter(code for _, codes in judged("clean") for code in codes)
    assert seen["IE110"] <= 0.05 * CLEAN and seen["IE120"] <= 0.1 * CLEAN, seen
