from .args import Args as Args
from .args import args_file as args_file
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
from .schema import (
    EDITED as EDITED,
)
from .schema import (
    KEYS as KEYS,
)
from .schema import (
    METHODS as METHODS,
)
from .schema import (
    OPERATIONS as OPERATIONS,
)
from .schema import (
    check_record as check_record,
)
from .schema import (
    keys_of as keys_of,
)
from .store import Store as Store
