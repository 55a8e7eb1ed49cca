from .classes import plot_classes as plot_classes
from .classes import plot_similarity as plot_similarity
from .common import save as save
from .edits import accuracy_deviation as accuracy_deviation
from .edits import probability_deviation as probability_deviation
from .scores import class_scores as class_scores
from .scores import score_distributions as score_distributions
