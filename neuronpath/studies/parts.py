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

#: Of the study of smaller models: by what units are kept. path_K: the frequency in paths of K neurons per layer; all:
#: measured at all tokens, the others at those that the head reads.
SHRINK_NAMES = (
    "path_1",
    "path_5",
    "path_20",
    "activation",
    "activation_all",
    "taylor",
    "taylor_all",
    "magnitude",
    "random",
)
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of units kept
