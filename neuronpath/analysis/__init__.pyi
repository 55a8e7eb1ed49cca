from .classes import Classes as Classes, open_classes as open_classes, read_classes as read_classes, resolve as resolve
from .confusion import check_confusion as check_confusion, mantel as mantel, soft_confusion as soft_confusion
from .curves import Curve as Curve, read_curves as read_curves
from .export import export_classes as export_classes
from .methods import method_tables as method_tables, of_training as of_training, over_trainings as over_trainings
from .metrics import Edited as Edited, Estimate as Estimate, estimate as estimate
from .results import Results as Results
from .shrinking import of_smaller_models as of_smaller_models, shrink_tables as shrink_tables
from .similarity import (
    cosines as cosines,
    frequencies as frequencies,
    neighbours as neighbours,
    write as write,
)
from .table import GROUPS as GROUPS, markdown as markdown, table as table
from .validity import overlap as overlap, spearman as spearman, stability as stability, validity as validity
