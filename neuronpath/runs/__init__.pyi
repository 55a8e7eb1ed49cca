from .editing import Edit as Edit
from .extraction import (
    Baseline as Baseline,
    HeadAttribution as HeadAttribution,
    InfluencePattern as InfluencePattern,
    JointAttribution as JointAttribution,
    TopKAttribution as TopKAttribution,
)
from .job import Job as Job, main as main
from .pruning import TopKEdit as TopKEdit
from .run import Inputs as Inputs, Plan as Plan, Run as Run, open_inputs as open_inputs, open_model as open_model
from .top_images import TopImages as TopImages
