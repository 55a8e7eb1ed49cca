"""The data set of the records, for pictures and names: what the options say, else what the records do."""

from argparse import Namespace
from copy import copy

from ..analysis.classes import settle_dataset
from ..analysis.results import Results
from ..data.images import ImageSet, open_chosen
from ..data.names import class_names
from ..errors import UserError
from ..files import DATASETS
from .build import Sources


def open_sources(options: Namespace, results: Results, models: list[str]) -> Sources:
    """`options`: those of `cli.options.add_dataset`. A data set that is not there is no error unless it was named.

    UserError for options that contradict each other, and for a typed --dataset_path that is no such data set.
    """
    chosen = copy(options)
    args = [found for model in models for found in results.args(model).values()]
    settings, recorded = (args[0].settings, args[0].options) if args else ({}, {})
    if (options.dataset or settings.get("dataset", "imagenet1k")) not in DATASETS:
        raise UserError(
            f"{options.results}: records of a data set that is none of {', '.join(DATASETS)}; give --dataset"
        )
    settle_dataset(chosen, settings, recorded)
    images, reason = _images(chosen, settings)
    kinds = {model: str(results.settings(model).get("dataset", chosen.dataset)) for model in models}
    others = {
        model: f"pictures: its records are of {kind}, and --dataset is {chosen.dataset}"
        for model, kind in kinds.items()
        if kind != chosen.dataset
    }
    names = {model: _names(chosen, results, model, kinds[model] == chosen.dataset) for model in models}
    return Sources(images, reason, names, others)


def _images(chosen: Namespace, settings: dict) -> tuple[ImageSet | None, str]:
    """The data set, or why there is none."""
    if chosen.dataset == "images" and not chosen.images:
        return None, "pictures: the records are of single images; name them with --images"
    classes = settings.get("model_num_classes")
    try:
        return open_chosen(chosen, classes if isinstance(classes, int) else 1000), ""
    except UserError as e:
        if chosen.path_typed:
            raise
        return None, f"pictures: {e}"


def _names(chosen: Namespace, results: Results, model: str, same: bool) -> list[str]:
    """By label: those that came with the weights, else the data set's, if `same`; none where it is not there."""
    own = next((args.class_names for args in results.args(model).values() if args.class_names), None)
    if own:
        return own
    if not same:
        return []
    try:
        return class_names(chosen.dataset, chosen.dataset_path, chosen.class_map)
    except UserError:
        return []
