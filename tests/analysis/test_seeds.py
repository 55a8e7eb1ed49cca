"""On what several trainings agree: spreads by hand, what is refused, and the command."""

import json
import statistics
from pathlib import Path

import pytest
from helpers import fault, run_file
from made import write_folder

from neuronpath.analysis.seeds import over_seeds, tables_of, text_of
from neuronpath.analysis.table import MEASURES

PREFIX, MODEL = "imgnet_all", "ViT-a"
EDITS = "edit/remove_enhance"


def edited(remove: float, right: bool = True, **more) -> dict:
    found = {"original": 0.5, "remove": remove, "enhance": 1 - remove}
    return found | {"original_label": 0, "remove_label": 0 if right else 1, "enhance_label": 0, **more}


def write(root: Path, seed: int, gain: float, lost: int, n: int = 8, **made) -> Path:
    """One training: Neuron Path's score is `gain` above the others', and its removal turns `lost` of n images."""
    folder = root / f"seed{seed}"
    made = {"checkpoint_sha256": f"{seed}" * 64, "quadrature": "right", **made}
    write_folder(folder / "ja" / MODEL, {0: [{"ja_score": gain + i, "base_score": float(i)} for i in range(n)]}, **made)
    write_folder(folder / EDITS / "ja" / MODEL, {0: [edited(0.25, i >= lost) for i in range(n)]}, **made)
    control = [edited(0.5, control_ratio=[[1 + seed / 10]]) for _ in range(n)]
    write_folder(folder / EDITS / "random" / MODEL, {0: control}, **made)
    return folder


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    return [write(tmp_path, 0, 0.5, 6), write(tmp_path, 1, -0.25, 0), write(tmp_path, 2, 1.0, 2)]


class TestOverSeeds:
    def test_means_and_spreads_of_every_entry(self, folders):
        tables = tables_of(folders, PREFIX)
        found = over_seeds(tables)
        assert found["seeds"] == 3
        assert found["measures"].keys() == MEASURES.keys() - {"drop"}, "paths of heads alone have it"
        for key, methods in found["measures"].items():
            for method, row in methods.items():
                values = [t["measures"][key][method][MODEL]["value"] for t in tables]
                known, entry = [value for value in values if value is not None], row[MODEL]
                assert entry["seeds"] == len(known)
                if known:
                    expected = [statistics.mean(known), statistics.stdev(known), min(known), max(known)]
                    assert [entry[name] for name in ("mean", "sd", "min", "max")] == pytest.approx(expected)
                else:
                    assert entry == {"seeds": 0, "mean": None}
                assert ("holds" in entry) == bool(known and MEASURES[key].claim)
        json.dumps(found, allow_nan=False)

    def test_in_how_many_a_claim_holds_and_is_clear(self, folders):
        """Of 0, 2 and 6 images of 8 that turn: McNemar's p is 1, 0.5 and 0.03125."""
        measures = over_seeds(tables_of(folders, PREFIX))["measures"]

        def of(key: str, method: str) -> tuple[int, int]:
            entry = measures[key][method][MODEL]
            return entry["holds"], entry["clear"]

        assert of("removal_paired_accuracy", "random") == (2, 1)
        assert of("enhancement_paired_accuracy", "random") == (0, 0), "0 is on no side"
        assert of("removal_paired_probability", "random") == (3, 3)
        assert of("enhancement_paired_probability", "random") == (3, 3)
        assert of("paired_joint_attribution_score", "base") == (2, 2)
        assert measures["removal_paired_accuracy"]["base"][MODEL] == {"seeds": 0, "mean": None}

    def test_an_interval_decides_where_there_is_no_p_and_must_be_on_the_claimed_side(self):
        def one(**entry) -> dict:
            return {"control": {}, "measures": {"paired_joint_attribution_score": {"base": {"m": entry}}}}

        entries = [
            {"value": 0.5, "low": 0.1, "high": 0.9},
            {"value": 0.5, "low": -0.1, "high": 1.1},
            {"value": 0.5, "low": None, "high": None},
            {"value": -0.5, "low": -0.9, "high": -0.1},
            {"value": None},
        ]
        found = over_seeds([one(**entry) for entry in entries])["measures"]["paired_joint_attribution_score"]
        entry = found["base"]["m"]
        assert (entry["seeds"], entry["holds"], entry["clear"], entry["mean"]) == (4, 3, 1, 0.25)
        alone = over_seeds([one(**entries[0])])["measures"]["paired_joint_attribution_score"]["base"]["m"]
        assert (alone["sd"], alone["min"], alone["max"]) == (None, 0.5, 0.5)

    def test_the_match_of_the_control_is_the_mean_of_the_trainings(self, folders):
        tables = tables_of(folders, PREFIX)
        assert over_seeds(tables)["control"] == {MODEL: {"ratio": pytest.approx(1.1), "within": pytest.approx(2 / 3)}}
        tables[1]["control"] = {MODEL: None}
        assert over_seeds(tables)["control"][MODEL]["ratio"] == pytest.approx(1.1)
        assert over_seeds([{**tables[1]}] * 2)["control"] == {MODEL: None}

    def test_as_text(self, folders):
        lines = text_of(over_seeds(tables_of(folders, PREFIX))).splitlines()
        assert lines[0] == f"| 3 trainings | | {MODEL} |"
        assert lines[1] == "|---|---|---|"
        assert lines[2] == (
            "| Joint Attribution Score, Neuron Path's mean minus that of (claim: above 0) | Activation "
            "| +0.4167 ± 0.6292 (-0.2500 to +1.0000), holds in 2 of 3, clear in 2 |"
        )
        assert "|  | Influence Pattern | missing |" in lines
        accuracy = "Removal, Neuron Path's accuracy minus that of, points (claim: below 0)"
        place = next(i for i, line in enumerate(lines) if accuracy in line)
        assert lines[place].endswith("| Activation | missing |")
        assert lines[place + 2] == (
            "|  | Matched control | -33.33 ± 38.19 (-75.00 to +0.00), holds in 2 of 3, clear in 1 |"
        )
        assert sum(line.startswith("|") for line in lines) == 2 + 2 + 4 * 3
        words = "1.10 times what the path's do, 67 % of them within 10 %."
        assert lines[-1].endswith(f"{MODEL}: {words}")

    def test_models_that_some_trainings_lack(self, folders, tmp_path):
        (folders[1] / "ja" / MODEL).rename(folders[1] / "ja" / "other")
        found = over_seeds(tables_of(folders, PREFIX))["measures"]["joint_attribution_score"]["ja"]
        assert (found[MODEL]["seeds"], found["other"]["seeds"]) == (2, 1)
        assert found["other"]["sd"] is None
        assert [*over_seeds(tables_of(folders, PREFIX, ["other"]))["measures"]["joint_attribution_score"]["ja"]] == [
            "other"
        ]


class TestFolders:
    def test_one_alone(self, folders):
        assert fault(tables_of, folders[:1], PREFIX) == "1 folders of results; give two or more, one for each training"

    def test_one_without_records(self, folders, tmp_path):
        assert str(tmp_path / "none") in fault(tables_of, [*folders, tmp_path / "none"], PREFIX)

    def test_the_same_training_twice(self, folders, tmp_path):
        again = write(tmp_path, 2, 1.0, 2).rename(tmp_path / "again")
        write(tmp_path, 2, 1.0, 2)
        message = fault(tables_of, [*folders, again], PREFIX)
        assert message == f"{folders[2]} and {again}: the same weights of {MODEL}; give a folder for each training"

    def test_one_that_was_made_otherwise(self, folders, tmp_path):
        other = write(tmp_path, 3, 1.0, 2, quadrature="left")
        with pytest.warns(
            UserWarning, match=r"seed3: ViT-a was made otherwise than in .*seed0 \(quadrature right → left\)"
        ):
            tables_of([*folders, other], PREFIX)


def test_the_command(folders, tmp_path):
    file = tmp_path / "new/over_seeds.json"
    printed = run_file("scripts/over_seeds.py", *folders, "--json", file).expect().stdout
    expected = over_seeds(tables_of(folders, PREFIX))
    assert json.loads(file.read_text()) == expected
    assert printed == f"{text_of(expected)}\n\n{file}\n"
    assert "give two or more" in run_file("scripts/over_seeds.py", folders[0]).expect(2).stderr
