"""The choice of a layer's neurons by their scores."""

import pytest
import torch

from neuronpath.attribution.choice import choose


def test_choose_ties_margins_and_nan():
    scores = torch.tensor([[1.0, 3.0, 3.0, -6.0], [0.0, 0.0, 0.0, 0.0], [1.0, float("nan"), 2.0, 0.0]])
    chosen, margin = choose(scores, 2)
    assert chosen[:2].tolist() == [[1, 2], [0, 1]]
    assert margin[:2].tolist() == pytest.approx([(3 - 1) / 6, 0])
    assert margin[2].isnan()
    assert choose(scores[:1], 1)[1].item() == 0  # a tie
    assert choose(scores[:1], 4)[1].item() == 1
