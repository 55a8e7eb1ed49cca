from .benchmark import compare as compare
from .cost import CountFlops as CountFlops
from .cost import block_flops as block_flops
from .cost import engine_flops as engine_flops
