from .adaptive import find_path_auto as find_path_auto
from .edits import edit as edit
from .edits import enhance as enhance
from .edits import gain as gain
from .edits import remove as remove
from .influence import InfluencePath as InfluencePath
from .influence import influence_path as influence_path
from .quadrature import Quadrature as Quadrature
from .score import score_path as score_path
from .search import (
    Exhaustive as Exhaustive,
)
from .search import (
    Layer as Layer,
)
from .search import (
    NeuronPath as NeuronPath,
)
from .search import (
    Shortlist as Shortlist,
)
from .search import (
    activation_path as activation_path,
)
from .search import (
    find_path as find_path,
)
