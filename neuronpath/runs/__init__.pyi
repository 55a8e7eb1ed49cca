from .editing import Edit as Edit
from .extraction import (
    InfluencePattern as InfluencePattern,
)
from .extraction import (
    JointAttribution as JointAttribution,
)
from .extraction import (
    TopKAttribution as TopKAttribution,
)
from .job import Job as Job
from .job import Plan as Plan
from .job import Run as Run
from .job import main as main
from .pruning import TopKEdit as TopKEdit
