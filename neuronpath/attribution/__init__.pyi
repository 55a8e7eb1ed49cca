from .activations import mean_activations as mean_activations, resample as resample
from .adaptive import find_path_auto as find_path_auto
from .baselines import BaselinePath as BaselinePath, baseline_path as baseline_path
from .edits import (
    Setting as Setting,
    SiteEdit as SiteEdit,
    edit as edit,
    enhance as enhance,
    gain as gain,
    remove as remove,
    retain as retain,
)
from .heads import UnitPath as UnitPath, find_head_path as find_head_path, score_head_path as score_head_path
from .importance import (
    UnitSums as UnitSums,
    magnitude as magnitude,
    most_important as most_important,
    path_frequency as path_frequency,
    random_importance as random_importance,
    unit_sums as unit_sums,
    written as written,
)
from .influence import InfluencePath as InfluencePath, influence_path as influence_path
from .maps import PatchGrid as PatchGrid, patch_grid as patch_grid, unit_maps as unit_maps
from .quadrature import Quadrature as Quadrature
from .rankings import (
    Ablation as Ablation,
    Conductance as Conductance,
    GradientActivation as GradientActivation,
    LayerIG as LayerIG,
    RandomUnits as RandomUnits,
)
from .rows import default_rows as default_rows
from .score import score_path as score_path
from .search import NeuronPath as NeuronPath, activation_path as activation_path, find_path as find_path
from .searches import Beam as Beam, Exhaustive as Exhaustive, Layer as Layer, Shortlist as Shortlist
