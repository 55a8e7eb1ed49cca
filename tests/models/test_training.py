"""Training of the embedded default."""

import torch
from helpers import tiny_config

from neuronpath.models.training import train


def test_the_seed_decides_weights_and_order():
    images, labels = torch.rand(8, 3, 9, 9), torch.arange(8) % 4
    one, same, other = (train(tiny_config(), images, labels, 2, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
