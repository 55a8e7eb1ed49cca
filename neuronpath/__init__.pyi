from .attribution import (
    Exhaustive as Exhaustive,
)
from .attribution import (
    InfluencePath as InfluencePath,
)
from .attribution import (
    Layer as Layer,
)
from .attribution import (
    NeuronPath as NeuronPath,
)
from .attribution import (
    Quadrature as Quadrature,
)
from .attribution import (
    Shortlist as Shortlist,
)
from .attribution import (
    activation_path as activation_path,
)
from .attribution import (
    edit as edit,
)
from .attribution import (
    enhance as enhance,
)
from .attribution import (
    find_path as find_path,
)
from .attribution import (
    find_path_auto as find_path_auto,
)
from .attribution import (
    gain as gain,
)
from .attribution import (
    influence_path as influence_path,
)
from .attribution import (
    remove as remove,
)
from .attribution import (
    score_path as score_path,
)
from .data import load_images as load_images
from .errors import NonFiniteError as NonFiniteError
from .errors import UserError as UserError
from .models import HeadError as HeadError
from .models import VisionTransformer as VisionTransformer
from .models import load as load
