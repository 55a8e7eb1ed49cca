"""The table of mean Joint Attribution Scores from result folders."""

from pathlib import Path

from .errors import UserError
from .records import label_files, read_results

#: Method: the paper's name, the folder of its records, and the key of its score.
METHODS = {
    "base": ("Activation", "ja", "base_score"),
    "influence_pattern": ("Influence Pattern", "influence_pattern", "score"),
    "ja": ("Neuron Path", "ja", "ja_score"),
}


def mean_scores(results: Path, prefix: str) -> dict[str, dict[str, tuple[float, int]]]:
    """Model: method: mean JAS and number of images, for every `results`/<job>/<model> that holds records."""
    folders = {folder for _, folder, _ in METHODS.values()}
    models = sorted({d.name for folder in folders for d in (results / folder).glob("*") if label_files(d, prefix)})
    if not models:
        raise UserError(
            f"{results}: no {prefix} records in {' or '.join(sorted(folders))}/<model>; run path/*.py first"
        )
    return {model: _model_scores(results, model, prefix) for model in models}


def _model_scores(results: Path, model: str, prefix: str) -> dict[str, tuple[float, int]]:
    found = {}
    for method, (_, folder, key) in METHODS.items():
        if label_files(results / folder / model, prefix):
            records = [r for part in read_results(results / folder / model, prefix).values() for r in part]
            if any(key not in record for record in records):
                raise UserError(f"{results / folder / model}: records without {key}; were they made by path/*.py?")
            if records:
                found[method] = (sum(record[key] for record in records) / len(records), len(records))
    return found


def markdown(scores: dict[str, dict[str, tuple[float, int]]]) -> str:
    """Methods × models; what is missing is shown as missing."""
    lines = [f"| mean Joint Attribution Score | {' | '.join(scores)} |", "|---" * (1 + len(scores)) + "|"]
    for method, (name, _, _) in METHODS.items():
        cells = [f"{s[method][0]:.4f} (n = {s[method][1]})" if method in s else "missing" for s in scores.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
