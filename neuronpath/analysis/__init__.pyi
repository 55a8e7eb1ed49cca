from .classes import Classes as Classes, read_classes as read_classes
from .confusion import mantel as mantel, soft_confusion as soft_confusion
from .metrics import Edited as Edited, Estimate as Estimate, estimate as estimate
from .results import Results as Results
from .similarity import cosines as cosines, frequencies as frequencies, neighbours as neighbours
from .table import table as table
