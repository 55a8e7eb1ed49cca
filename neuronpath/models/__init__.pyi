from .checkpoint import HeadError as HeadError, load as load, save as save, sha256 as sha256
from .configs import CONFIGS as CONFIGS, Config as Config
from .vit import Block as Block, VisionTransformer as VisionTransformer
