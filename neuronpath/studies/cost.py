"""What a search costs: useful floating-point operations and block passes, counted from the method alone.

A block pass is one block forward of one row, all tokens; the backward pass of a frozen block costs the same, since
only the gradient of its input is computed. Matrix products count, two operations per multiply-add; what is
elementwise does not.
"""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..attribution.quadrature import Quadrature
from ..models.configs import Config


def block_flops(config: Config, ffn_tokens: int | None = None, queries: int | None = None) -> int:
    """One block forward of one row: the FFN of `ffn_tokens` tokens, attention of `queries` rows (default: all)."""
    T, D, H = config.tokens, config.width, config.mlp_dim
    ffn_tokens, queries = (T if n is None else n for n in (ffn_tokens, queries))
    keys_and_values, query_and_output, scores = T * 2 * D * D, queries * 2 * D * D, queries * T * 2 * D
    return 2 * (keys_and_values + query_and_output + scores + ffn_tokens * 2 * D * H)


def engine_flops(config: Config, quadrature: Quadrature, candidates: float = 0, width: int = 1) -> float:
    """Useful operations of `find_path` for one image, CLS head, k = 1, both paths and scores.

    `candidates`: of a shortlist, how many are scored exactly in every layer, the mean; each costs its tails once more.
    `width`: of a beam, whose paths share layer 0; beside one wider than 1 the greedy path is found, too.

    Per node below 1: the tails forward and backward, the stream and its tangent once through every block, and the
    activation path's score forward and backward. Per image: the plain forward. Of the last block only the CLS row
    is needed, and block 0 is the plain forward's. Where α = 1 is a node, per image once, whatever the search: a
    backward through the plain network, one tangent of the path, and the way back through the activation path.
    """
    L, T, block = config.depth, config.tokens, block_flops(config)
    if L == 1:
        return block
    last_in_tail = block_flops(config, ffn_tokens=1, queries=1)
    first, *later = ((L - 2 - layer) * block + last_in_tail for layer in range(L - 1))
    clamped = (L - 2) * block_flops(config, ffn_tokens=T - 1) + block_flops(config, ffn_tokens=0, queries=1)
    widths = {1, width}
    searches = sum((1 + candidates) * (first + w * sum(later)) + w * clamped for w in widths)
    ramped = len(quadrature.ramped[0]) * 2 * (searches + clamped)
    if not quadrature.unramped:
        return ramped + L * block
    forward = (L - 1) * block + last_in_tail
    backward = (L - 2) * block + last_in_tail
    return ramped + forward + backward + sum(widths) * clamped + clamped


def head_flops(config: Config, quadrature: Quadrature) -> float:
    """Useful operations of `find_head_path` for one image, heads alone, CLS head, k = 1, three paths and their scores.

    Per node and head: from every layer on the FFN and the blocks behind it, forward and backward. Per node: the stream
    and its tangent once through FFNs and the other tokens' attention, and the same forward and backward for each
    baseline's score. Per image: the plain forward, one forward and backward, and three times the clamped forward.
    """
    L, T, block = config.depth, config.tokens, block_flops(config)
    ffn, ffn_of_one = (block_flops(config, n, 0) - block_flops(config, 0, 0) for n in (T, 1))
    last = block_flops(config, ffn_tokens=1, queries=1)
    tails = sum(ffn + (L - 2 - layer) * block + last for layer in range(L - 1)) + ffn_of_one
    others = block_flops(config, ffn_tokens=0, queries=T - 1)
    clamped = (L - 1) * ffn + max(0, L - 2) * others + ffn_of_one
    per_node = 2 * (config.num_heads * tails + 3 * clamped)
    return quadrature.steps * per_node + 3 * L * block + 3 * clamped


def plain_flops(config: Config, steps: int) -> int:
    """Operations of `reference.plain_search` for one image: whole forwards, each back to fc2 of block 0."""
    L, block = config.depth, block_flops(config)
    backward = (L - 1) * block + config.tokens * 2 * config.width * config.mlp_dim
    return steps * (L + 2) * (L * block + backward) + L * block  # a search per layer and two scores


class CountFlops(TorchDispatchMode):
    """Counts the operations of all matrix products and convolutions that run inside it, in `flops`."""

    def __init__(self) -> None:
        super().__init__()
        self.by_operation: Counter[str] = Counter()

    @property
    def flops(self) -> int:
        return sum(self.by_operation.values())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        operation = function._overloadpacket
        if operation in flop_registry:
            self.by_operation[str(operation)] += flop_registry[operation](*args, **(kwargs or {}), out_val=result)
        return result
