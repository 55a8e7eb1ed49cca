"""The parts of the study of searches, by name; without PyTorch, for the command line."""

PARTS = ("training", "layers", "checked", "paths", "quadrature", "shortlist_quadrature", "precision", "costs")

#: Of the study of methods. base: activation; uniform: random units; random: the matched control.
METHOD_NAMES = (
    "layer",
    "shortlist",
    "beam_4",
    "beam_16",
    "influence_pattern",
    "gradient_activation",
    "conductance",
    "layer_ig",
    "ablation",
    "base",
    "uniform",
    "random",
)
