from .metrics import Edited as Edited
from .metrics import Estimate as Estimate
from .metrics import estimate as estimate
from .similarity import (
    Classes as Classes,
)
from .similarity import (
    cosines as cosines,
)
from .similarity import (
    frequencies as frequencies,
)
from .similarity import (
    mantel as mantel,
)
from .similarity import (
    neighbours as neighbours,
)
from .table import Results as Results
from .table import markdown as markdown
from .table import table as table
