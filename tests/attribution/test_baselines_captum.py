"""Conductance and layer integrated gradients against Captum's layer attributions, on the same points."""

import pytest
import torch
from helpers import problem, tiny_config
from torch import nn

from neuronpath import Quadrature
from neuronpath.attribution.baselines import Layers
from neuronpath.attribution.engine import Problem

captum = pytest.importorskip("captum.attr", reason="the extra `test` installs it")

M = 8  # a power of two: Captum's nodes are fp32 numbers, of which k/8 is one
SIZES = {kind: tiny_config(kind, depth=3) for kind in ("cls", "mean")}


class Probed(nn.Module):
    """Probabilities (B, C) of images (B, 3, S, S), every layer's neurons passing through a probe of their own.

    At the neuron tokens they are multiplied by `gate` (B,) first.
    """

    def __init__(self, model):
        super().__init__()
        self.model, self.probes = model, nn.ModuleList(nn.Identity() for _ in model.blocks)

    def forward(self, images, gate=None):
        model = self.model
        z = model.embed(images)
        gate = images.new_ones(len(images)) if gate is None else gate
        for block, probe in zip(model.blocks, self.probes, strict=True):
            a = block.attend(z)
            h = block.hidden(a)
            neurons = probe(gate[:, None, None] * h[:, model.neuron_tokens])
            z = a + block.project(model.join(neurons, h[:, model.other_tokens]))
        return model.read(z[:, model.neuron_tokens]).softmax(-1)


def make(name: str, quadrature: Quadrature):
    model, images, labels = problem(SIZES[name], 3, seed=3)
    return (
        Probed(model),
        images,
        labels,
        Layers(Problem.of(model, images, labels, quadrature, 11, differentiable=True), images),
    )


@pytest.mark.parametrize("name", SIZES)
def test_conductance(name):
    """Captum multiplies the gradient at a node by the step to the *next* node, ours by the step from the one before.

    It is therefore given the ramp backwards, from the image (its baseline) to 0 (its input): its nodes 0, 1/m, …, 1
    are our 1, (m-1)/m, …, 0, all gradients but that at 0 count, and every step has the other sign.
    """
    probed, images, labels, layers = make(name, Quadrature("midpoint", M))
    for probe, scores in zip(probed.probes, layers.conductance(), strict=True):
        found = captum.LayerConductance(probed, probe).attribute(
            torch.zeros_like(images), images, labels, n_steps=M, method="riemann_trapezoid"
        )
        torch.testing.assert_close(scores, -found.sum(1), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("rule", "method"), [("right", "riemann_right"), ("left", "riemann_left"), ("gauss-legendre", "gausslegendre")]
)
@pytest.mark.parametrize("name", SIZES)
def test_layer_integrated_gradients(name, rule, method):
    """Captum goes from the layer at its baseline to the layer at its input, both of the whole model.

    The gate, a second input, is 0 in the baseline and 1 in the input, the image the same in both: so the neurons go
    from 0 to h̄, and all before them stays. Rules of the same name have the same nodes and weights, those of
    Gauss-Legendre rounded to fp32 in Captum.
    """
    probed, images, labels, layers = make(name, Quadrature(rule, M))
    on = images.new_ones(len(images))
    for probe, scores in zip(probed.probes, layers.layer_ig(), strict=True):
        found = captum.LayerIntegratedGradients(probed, probe).attribute(
            (images, on), (images, torch.zeros_like(on)), labels, n_steps=M, method=method
        )
        precision = 1e-6 if rule == "gauss-legendre" else 1e-9
        torch.testing.assert_close(scores, found.sum(1), rtol=precision, atol=precision**2)
