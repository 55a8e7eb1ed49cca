"""Records are joined by image, whatever their order and whichever are lacking."""

import pytest
from atlases import BARE, FULL, HOSTILE, MODELS, NO_INFLUENCE, ONLY_INFLUENCE, PAIRED, PREFIX, Records, shown
from helpers import fault, write_lines
from made import write_args

from neuronpath.analysis.results import Results
from neuronpath.atlas.gather import Gathered


def gathered(root, model: str = "m") -> Gathered:
    return Gathered(Results(root, PREFIX), model)


def record(image: str, unit: int = 0, **more) -> dict:
    path = [[unit], [1], [2]]
    return {"image": image, "label": 0, "ja": path, "ja_score": 0.5, "base": path, "base_score": 0.25, **more}


def write(root, job: str, records: list[dict], label: int = 0, **settings) -> None:
    write_lines(root / job / "m" / f"{PREFIX}-{label}.rlt.jsonl", records)
    write_args(root / job / "m", job, **{"model_depth": 3, "model_mlp_dim": 9, **settings})


def test_jobs_are_joined_by_image(tmp_path):
    """In the order of the first job, then what it lacks."""
    write(tmp_path, "ja", [record(name, unit) for name, unit in (("b", 1), ("a", 2), ("c", 3))])
    influence = [{"image": name, "path": [[unit], [0], [0]], "score": unit / 8} for name, unit in (("d", 4), ("a", 5))]
    write(tmp_path, "influence_pattern", [{**r, "pred": 1, "prob": 0.5} for r in influence])
    ((label, shard),) = gathered(tmp_path).classes()
    assert (label, shard["images"]) == (0, ["b", "a", "c", "d"])
    assert [path and path[0] for path in shard["methods"]["ja"]["path"]] == [[1], [2], [3], None]
    assert [path and path[0] for path in shard["methods"]["influence_pattern"]["path"]] == [None, [5], None, [4]]
    assert shard["methods"]["influence_pattern"]["score"] == [None, 0.625, None, 0.5]
    assert shard["pred"] == [None, 1, None, 1]
    assert shard["prob"] == [None, 0.5, None, 0.5]


def test_records_of_older_versions_are_joined_by_place(tmp_path):
    """They name no image."""
    lines = [{key: value for key, value in record("", i).items() if key != "image"} for i in range(3)]
    write(tmp_path, "ja", lines)
    ((_, shard),) = gathered(tmp_path).classes()
    assert shard["images"] == ["0/0", "0/1", "0/2"]
    assert [path[0] for path in shard["methods"]["ja"]["path"]] == [[0], [1], [2]]


def test_a_column_that_some_records_lack_is_left_out(tmp_path):
    write(tmp_path, "ja", [record("a", margin=[0.1] * 3, ja_act=[[1.0]] * 3), record("b", ja_act=[[2.0]] * 3)])
    ((_, shard),) = (found := gathered(tmp_path)).classes()
    assert {*shard["methods"]["ja"]} == {"path", "score", "act"}
    assert {*shard["methods"]["base"]} == {"path", "score"}
    assert found.found["ja"].near == {}


@pytest.mark.parametrize(("precision", "below"), [("fp32", 1e-4), ("tf32", 5e-4), ("bf16", 3e-3)])
def test_near_ties_by_the_precision_of_the_records(tmp_path, precision, below):
    several = [
        record(str(i), margin=[0.5, sign * size, 0.5])
        for i, (sign, size) in enumerate([(1, 0.9 * below), (-1, 0.9 * below), (1, 1.1 * below), (-1, 1.1 * below)])
    ]
    write(tmp_path, "ja", several, precision=precision)
    found = gathered(tmp_path)
    assert len([*found.classes()]) == 1
    assert found.found["ja"].near[0].tolist() == [True, True, False, False]
    assert found.found["base"].near == {}, "the margins are the search's"


def test_sizes_that_no_setting_tells(tmp_path):
    write_lines(tmp_path / "ja/m" / f"{PREFIX}-0.rlt.jsonl", [record("a", 41)])
    found = gathered(tmp_path)
    assert len([*found.classes()]) == 1
    assert (found.sizes.depth, found.mlp_dim) == (3, 42)


def test_a_label_without_images_is_no_class(tmp_path):
    write(tmp_path, "ja", [record("a")])
    write(tmp_path, "ja", [], 3)
    found = gathered(tmp_path)
    assert [label for label, _ in found.classes()] == [0]
    assert found.labels == [0, 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ja": [[9], [0], [0]]}, "ja is not"),
        ({"ja": [[0], [0]]}, "ja is not"),
        ({"ja": [[0, 0], [1, 2], [1, 2]]}, "ja is not"),
        ({"ja": [[0, 1], [1, 2], [1, 2]]}, "one K per folder"),
        ({"prob": 10**400}, "prob is not"),
        ({"ja_score": None}, "ja_score is not"),
    ],
)
def test_broken_records(tmp_path, changes, words):
    write(tmp_path, "ja", [record("a"), record("b", **changes)])
    said = fault(lambda: [*gathered(tmp_path).classes()])
    assert words in said
    assert str(tmp_path / "ja/m") in said


@pytest.mark.parametrize("model", [FULL, HOSTILE, BARE])
def test_made_up_records(world, model):
    """All of them, against their lines."""
    found, lines = Gathered(Results(world.results, PREFIX), model), Records(world.results, model)
    shards = dict(found.classes())
    assert {label: shard["images"] for label, shard in shards.items()} == {
        label: [*map(shown, several)] for label, several in lines.everything.items()
    }
    keys = {"base": "Activation", "ja": "Neuron Path", "influence_pattern": "Influence Pattern", "uniform": "Random"}
    assert {keys[key] for key in found.methods} == {*lines.methods}
    for key in found.methods:
        for label, of in lines.methods[keys[key]].items():
            shard = shards[label]["methods"][key]
            rows = [of.get(image) for image in lines.everything[label]]
            assert shard["path"] == [row and row[0] for row in rows]
            assert found.found[key].paths[label].shape == (len(of), MODELS[model].depth, MODELS[model].K)
            assert shard["score"] == [row and round(row[1], 4) for row in rows]


def test_what_is_missing(world):
    def missing(model: str) -> list[str]:
        return [text.partition(":")[0] for text in Gathered(Results(world.results, PREFIX), model).missing()]

    assert missing(FULL) == []
    assert missing(HOSTILE) == missing(BARE) == ["influence patterns", "edits"]


def test_labels_that_one_job_lacks(world):
    shards = dict(Gathered(Results(world.results, PREFIX), FULL).classes())
    assert "influence_pattern" not in shards[NO_INFLUENCE]["methods"]
    assert {*shards[ONLY_INFLUENCE]["methods"]} == {"influence_pattern"}
    assert shards[ONLY_INFLUENCE]["edits"] == {}
    assert shards[PAIRED]["methods"]["ja"]["path"][-1] is None
    assert shards[PAIRED]["methods"]["influence_pattern"]["path"][0] is None


def unnamed(count: int) -> list[dict]:
    return [{key: value for key, value in record("", i).items() if key != "image"} for i in range(count)]


def test_records_without_names_are_joined_only_where_they_are_as_many(tmp_path):
    write(tmp_path, "ja", unnamed(3))
    scores = {"path": [[0], [0], [0]], "score": 0.5}
    write(tmp_path, "influence_pattern", [scores] * 2)
    assert "cannot be joined by position" in fault(lambda: [*gathered(tmp_path).classes()])
    write(tmp_path, "influence_pattern", [scores] * 3)
    with pytest.warns(UserWarning, match="joined by position"):
        ((_, shard),) = gathered(tmp_path).classes()
    assert shard["methods"]["influence_pattern"]["score"] == [0.5] * 3
    write(tmp_path, "ja", [*unnamed(2), record("a")])
    assert "names no image" in fault(lambda: [*gathered(tmp_path).classes()])


def test_one_K_in_all_classes(tmp_path):
    write(tmp_path, "ja", [record("a")])
    wide = [[0, 1], [1, 2], [1, 2]]
    write(tmp_path, "ja", [record("b", ja=wide, base=wide)], 1)
    assert "one K per folder" in fault(lambda: [*gathered(tmp_path).classes()])


def test_an_image_under_two_labels_is_refused(tmp_path):
    write(tmp_path, "ja", [record("a")])
    write(tmp_path, "ja", [record("a")], 1)
    assert "a has records under labels 0 and 1" in fault(lambda: [*gathered(tmp_path).classes()])


def test_edits_alone_without_settings(tmp_path):
    edit = {"image": "a", "label": 0, "path": [[1], [2], [3]], "original": 0.5, "original_label": 0, "remove": 0.25}
    write_lines(tmp_path / "edit/remove_enhance/ja/m" / f"{PREFIX}-0.rlt.jsonl", [{**edit, "remove_label": 1}])
    found = gathered(tmp_path)
    ((_, shard),) = found.classes()
    assert (found.sizes.depth, shard["edits"]["ja"]["remove"], found.predicted) == (3, [0.25], {0, 1})
