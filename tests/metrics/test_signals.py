from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deidlib.metrics.signals import agreement, changes, correlation, lag, rmse

PERIODS, LENGTH = 6, 240
WAVE = 2 * math.pi * PERIODS / LENGTH


def sine(late: float = 0.0, *, times: float = 1.0, rows: int = LENGTH) -> Tensor:
    """Whole periods, 40 frames each, that come so many frames late."""
    return torch.sin(times * WAVE * (torch.arange(rows, dtype=torch.float64) - late))


@pytest.mark.parametrize("late", [-7, -1, 0, 1, 4, 10])
def test_a_shifted_sine_comes_as_late_as_it_was_shifted(late: int) -> None:
    assert lag(sine(), sine(late)) == pytest.approx(late, abs=1e-6)
    assert lag(changes(sine()), changes(sine(late))) == pytest.approx(late, abs=1e-6)


@pytest.mark.parametrize("late", [-2.5, 0.25, 3.4])
def test_parts_of_a_frame_are_told(late: float) -> None:
    assert lag(sine(), sine(late)) == pytest.approx(late, abs=0.03)


def test_a_lag_beyond_the_search_is_not_made_up() -> None:
    # The nearest that is looked at, without a parabola that has no third point.
    assert lag(sine(), sine(6), max_lag=4) == 4.0
    # A whole period fits as well: the shorter lag is taken.
    assert lag(sine(), sine(41), max_lag=45) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("late", [3, 10])
def test_a_shifted_sine_correlates_by_the_cosine_of_its_phase(late: int) -> None:
    # Over whole periods: r = cos(w k), and the mean square of the difference is 1 - cos(w k).
    assert correlation(sine(), sine(late)) == pytest.approx(math.cos(WAVE * late), abs=1e-9)
    assert rmse(sine(), sine(late)) == pytest.approx(math.sqrt(1 - math.cos(WAVE * late)), abs=1e-9)


@pytest.mark.parametrize("share", [0.1, 0.5, 2.0])
def test_noise_lowers_the_correlation_by_its_share(share: float) -> None:
    # Sines of different whole numbers of periods are orthogonal: r = 1 / sqrt(1 + var(noise) / var(signal)).
    noise = share * sine(times=7)
    assert correlation(sine(), sine() + noise) == pytest.approx(1 / math.sqrt(1 + share**2), abs=1e-9)
    # A difference is 2 sin(w / 2) as large, so that the faster noise weighs more in the changes.
    weight = share * math.sin(7 * WAVE / 2) / math.sin(WAVE / 2)
    clear, noisy = sine(rows=LENGTH + 1), sine(rows=LENGTH + 1) + share * sine(times=7, rows=LENGTH + 1)
    expected = 1 / math.sqrt(1 + weight**2)
    assert correlation(changes(clear), changes(noisy)) == pytest.approx(expected, abs=1e-9)
    assert rmse(clear[:-1], noisy[:-1]) == pytest.approx(share / math.sqrt(2), abs=1e-9)


def test_scale_and_offset_do_not_lower_the_correlation_and_the_sign_turns_it() -> None:
    assert correlation(sine(), 5 * sine() - 300) == pytest.approx(1, abs=1e-9)
    assert correlation(sine(), -sine()) == pytest.approx(-1, abs=1e-9)


def test_what_is_frozen_follows_nothing_and_what_stands_still_cannot_be_followed() -> None:
    still = torch.full((LENGTH,), 0.1, dtype=torch.float64)
    assert correlation(sine(), still) == 0
    assert math.isnan(lag(sine(), still))
    assert math.isnan(correlation(still, sine()))
    assert math.isnan(lag(still, sine()))


def test_numpy_agrees() -> None:
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)


def test_vectors_weigh_by_how_far_they_move() -> None:
    # x follows, y moves three times as far and against it: (1 - 9) / (1 + 9).
    a = torch.stack([sine(), 3 * sine()], dim=1)
    b = torch.stack([sine(), -3 * sine()], dim=1)
    assert correlation(a, b) == pytest.approx(-0.8, abs=1e-9)
    # A point that is (3, 4) off and one that is not: the root of the mean of 25 and 0.
    points = torch.zeros(1, 2, 2)
    moved = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    assert rmse(points, moved) == pytest.approx(math.sqrt(25 / 2))


def test_rows_unknown_on_either_side_are_left_out() -> None:
    a, b = sine(), sine(3)
    a[10], b[20:25] = torch.nan, torch.nan
    known = torch.ones(LENGTH, dtype=torch.bool)
    known[10] = known[20:25] = False
    found = agreement(a, b)
    assert found.compared == LENGTH - 6
    assert found.correlation == pytest.approx(np.corrcoef(a[known], b[known])[0, 1], abs=1e-12)
    assert found.rmse == pytest.approx(math.sqrt(float((a - b)[known].square().mean())), abs=1e-12)
    # Not squeezed together: time goes on where nothing is known.
    assert found.lag == pytest.approx(3, abs=1e-6)


def test_too_little_is_no_number() -> None:
    short = torch.tensor([0.0, 1.0])
    assert math.isnan(correlation(short, short))
    assert math.isnan(rmse(torch.zeros(0), torch.zeros(0)))
    assert agreement(torch.zeros(0, 2), torch.zeros(0, 2)).compared == 0
    assert math.isnan(lag(torch.zeros(0), torch.zeros(0)))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        agreement(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="max_lag must be >= 0"):
        lag(torch.zeros(2), torch.zeros(2), max_lag=-1)
