from .digits import load_images as load_images
from .digits import write_images as write_images
from .images import (
    DATASETS as DATASETS,
)
from .images import (
    Batch as Batch,
)
from .images import (
    ImageSet as ImageSet,
)
from .images import (
    Item as Item,
)
from .images import (
    batches as batches,
)
from .images import (
    open_dataset as open_dataset,
)
from .images import (
    preprocessing as preprocessing,
)
from .names import class_names as class_names
from .names import find_label as find_label
