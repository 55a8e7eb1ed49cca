from .checkpoint import HeadError as HeadError
from .checkpoint import load as load
from .checkpoint import save as save
from .checkpoint import sha256 as sha256
from .configs import CONFIGS as CONFIGS
from .configs import Config as Config
from .vit import Block as Block
from .vit import VisionTransformer as VisionTransformer
