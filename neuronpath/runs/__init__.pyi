from .editing import Edit as Edit
from .extraction import (
    InfluencePattern as InfluencePattern,
    JointAttribution as JointAttribution,
    TopKAttribution as TopKAttribution,
)
from .job import Job as Job, Plan as Plan, Run as Run, main as main
from .pruning import TopKEdit as TopKEdit
