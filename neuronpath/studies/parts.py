"""The parts of the study of searches, by name; without PyTorch, for the command line."""

PARTS = ("training", "layers", "checked", "paths", "quadrature", "shortlist_quadrature", "precision", "costs")
