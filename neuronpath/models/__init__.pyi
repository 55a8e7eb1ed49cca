from .adapted import adapt as adapt
from .checkpoint import HeadError as HeadError, load as load, save as save, sha256 as sha256
from .configs import CONFIGS as CONFIGS, Config as Config
from .devices import device as device, set_precision as set_precision
from .shrinking import shrink as shrink
from .training import accuracy as accuracy, train as train
from .vit import Block as Block, VisionTransformer as VisionTransformer
