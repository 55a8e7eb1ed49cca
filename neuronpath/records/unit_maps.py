"""`maps-<layer>.npz`, beside `top_images.npz`: of units of a layer, maps over the patches of their top images."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import replace_file
from .top_images import TOP, check_array, read_arrays


@dataclass(frozen=True)
class UnitMaps:
    """`made_of` says of which top images and units; NaN where a unit has fewer than TOP images."""

    unit: np.ndarray  # (n,) int32, ascending
    map: np.ndarray  # (n, TOP, side, side) float32, patches row by row from above
    made_of: str


def maps_file(directory: Path, layer: int) -> Path:
    return directory / f"maps-{layer}.npz"


def write_unit_maps(file: Path, maps: UnitMaps) -> None:
    """As a whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, unit=maps.unit, map=maps.map, made_of=np.array(maps.made_of))
    replace_file(file, content.getvalue())


def read_unit_maps(file: Path) -> UnitMaps | None:
    """None where there is no such file. UserError where it is none of ours."""
    arrays = read_arrays(file)
    if arrays is None:
        return None
    check_array(file, arrays, "unit", np.dtype(np.int32), (None,))
    check_array(file, arrays, "map", np.dtype(np.float32), (len(arrays["unit"]), TOP, None, None))
    if arrays["map"].shape[2] != arrays["map"].shape[3] or "made_of" not in arrays:
        raise UserError(f"{file}: not a file of maps; remove it")
    return UnitMaps(arrays["unit"], arrays["map"], str(arrays["made_of"]))
