from .benchmark import (
    adapted_table as adapted_table,
    compare as compare,
    heads_table as heads_table,
    influences_table as influences_table,
    rules_table as rules_table,
    searches_table as searches_table,
    sizes_table as sizes_table,
)
from .cost import CountFlops as CountFlops, block_flops as block_flops, engine_flops as engine_flops
from .methods import (
    METHODS as METHODS,
    Images as Images,
    Subject as Subject,
    compare_methods as compare_methods,
)
from .parts import METHOD_NAMES as METHOD_NAMES, PARTS as PARTS
from .report import markdown as markdown, run as run
from .shortlists import shortlist_errors as shortlist_errors, shortlist_tables as shortlist_tables
from .shrinking import (
    Ranked as Ranked,
    flops_of_smaller as flops_of_smaller,
    measure_smaller as measure_smaller,
    rank_units as rank_units,
    times_of_smaller as times_of_smaller,
)
from .support import library_versions as library_versions, support_page as support_page, verdicts as verdicts
