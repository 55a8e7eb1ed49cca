from .classes import plot_classes as plot_classes, plot_similarity as plot_similarity, save_pages as save_pages
from .common import save as save
from .curves import plot_curves as plot_curves
from .edits import accuracy_deviation as accuracy_deviation, probability_deviation as probability_deviation
from .methods import plot_methods as plot_methods
from .paths import plot_paths as plot_paths
from .pruning import plot_runs as plot_runs
from .scores import class_scores as class_scores, score_distributions as score_distributions
from .searches import plot_study as plot_study
from .shrinking import plot_shrink as plot_shrink
