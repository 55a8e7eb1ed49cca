"""The methods that name a path for an image: their names, where their records are, and how pictures show them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    name: str  # the paper's
    job: str  # its records are in results/<job>/<model>
    path: str  # their key that holds the path
    score: str  # and the one that holds its Joint Attribution Score
    colour: str  # Okabe and Ito's: colour-blind safe


#: The paper's, in its order.
METHODS = {
    "base": Method("Activation", "ja", "base", "base_score", "#D55E00"),
    "influence_pattern": Method("Influence Pattern", "influence_pattern", "path", "score", "#009E73"),
    "ja": Method("Neuron Path", "ja", "ja", "ja_score", "#0072B2"),
}

#: With the control of edits: units about as active as the neuron path's.
EDITED = {**METHODS, "random": Method("Matched control", "ja", "ja", "", "#7F7F7F")}
