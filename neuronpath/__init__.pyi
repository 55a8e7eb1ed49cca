from .attribution import (
    Ablation as Ablation,
    BaselinePath as BaselinePath,
    Beam as Beam,
    Conductance as Conductance,
    Exhaustive as Exhaustive,
    GradientActivation as GradientActivation,
    InfluencePath as InfluencePath,
    Layer as Layer,
    LayerIG as LayerIG,
    NeuronPath as NeuronPath,
    Quadrature as Quadrature,
    RandomUnits as RandomUnits,
    Setting as Setting,
    Shortlist as Shortlist,
    activation_path as activation_path,
    baseline_path as baseline_path,
    edit as edit,
    enhance as enhance,
    find_path as find_path,
    find_path_auto as find_path_auto,
    gain as gain,
    influence_path as influence_path,
    mean_activations as mean_activations,
    remove as remove,
    resample as resample,
    retain as retain,
    score_path as score_path,
)
from .data import load_images as load_images
from .errors import NonFiniteError as NonFiniteError, UserError as UserError
from .models import HeadError as HeadError, VisionTransformer as VisionTransformer, adapt as adapt, load as load
from .pixels import Preprocessing as Preprocessing
