from __future__ import annotations

import torch

from deidlib.images import sum_in_order


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
