from .args import Args as Args, args_file as args_file
from .reading import (
    label_file as label_file,
    label_files as label_files,
    read_label as read_label,
    read_results as read_results,
)
from .schema import (
    BASELINES as BASELINES,
    EDITED as EDITED,
    KEYS as KEYS,
    METHODS as METHODS,
    OPERATIONS as OPERATIONS,
    PAPER as PAPER,
    check_record as check_record,
    keys_of as keys_of,
)
from .store import Store as Store
from .top_images import TopImages as TopImages, read_top_images as read_top_images
from .unit_maps import UnitMaps as UnitMaps, read_unit_maps as read_unit_maps
