from __future__ import annotations

import torch

from deidlib.images import sum_in_order, total_of_rows


def test_sums_of_whole_numbers_are_exact() -> None:
    for count in (1, 2, 3, 7, 64, 1000):
        terms = torch.arange(2 * count, dtype=torch.float32).reshape(count, 2)
        before = terms.clone()
        assert sum_in_order(terms).tolist() == [count * (count - 1), count * count]
        assert torch.equal(terms, before)


def test_rows_do_not_matter_to_each_other_and_little_is_rounded() -> None:
    terms = torch.rand(100_003, 3) * torch.tensor([1.0, 1e-3, 1e3])
    total = sum_in_order(terms)
    for row in range(3):
        assert torch.equal(sum_in_order(terms[:, row]), total[row])
    torch.testing.assert_close(total, terms.double().sum(dim=0).float(), rtol=2e-7, atol=0)


def test_a_total_hangs_neither_on_the_order_nor_on_other_rows() -> None:
    generator = torch.Generator().manual_seed(5)
    spread = 10 ** torch.linspace(-9, 0, 100_003)
    rows = torch.randn(3, 100_003, generator=generator) * spread * torch.tensor([[1.0], [1e-20], [1e20]])
    total = total_of_rows(rows)
    order = torch.randperm(100_003, generator=generator)
    assert torch.equal(total_of_rows(rows[:, order]), total)
    for row in range(3):
        assert torch.equal(total_of_rows(rows[row : row + 1]), total[row : row + 1])
    # Each value is rounded to 2**-37 of the greatest or less.
    error = (total.double() - rows.double().sum(dim=1)).abs() / rows.double().abs().amax(dim=1)
    assert error.max() < 100_003 * 2**-36


def test_totals_of_whole_numbers_and_of_nearly_nothing() -> None:
    assert total_of_rows(torch.arange(1000.0)[None]).tolist() == [499_500.0]
    assert total_of_rows(torch.full((1, 4), 2.0**-60)).tolist() == [2.0**-58]
    assert total_of_rows(torch.full((1, 4), 1e-44)).tolist() == [0.0]
