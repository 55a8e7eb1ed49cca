from .args import Args as Args
from .args import args_file as args_file
from .methods import EDITED as EDITED
from .methods import METHODS as METHODS
from .methods import Method as Method
from .reading import (
    label_file as label_file,
)
from .reading import (
    label_files as label_files,
)
from .reading import (
    read_label as read_label,
)
from .reading import (
    read_results as read_results,
)
from .store import Store as Store
