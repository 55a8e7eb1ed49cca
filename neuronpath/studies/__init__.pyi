from .benchmark import compare as compare
from .cost import CountFlops as CountFlops, block_flops as block_flops, engine_flops as engine_flops
