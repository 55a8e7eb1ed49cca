"""Classes by their paths: frequencies, similarity, its check against the confusion, names, pictures, the scripts."""

import itertools
import json
import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, run_script
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from scipy.stats import spearmanr

import neuronpath
from neuronpath.analysis.classes import Classes, _below_root, read_classes
from neuronpath.analysis.confusion import mantel, recorded_items, soft_confusion
from neuronpath.analysis.export import export_images
from neuronpath.analysis.similarity import cosines, frequencies, modes, most_frequent, neighbours
from neuronpath.cli.exits import command
from neuronpath.data.images import ImageSet, open_dataset
from neuronpath.data.names import class_names, safe_name
from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.figures.classes import cluster, plot_classes, plot_similarity, save_pages, shown
from neuronpath.figures.common import save
from neuronpath.files import Item

H, L = 28, 6
SCRIPTS = ("pair-sim", "paper-plot", "freq-figure-all", "name2img")
IMAGES = {label: [f"class{label}/{i:02d}.png" for i in range(n)] for label, n in enumerate((3, 1, 2, 5))}  # conftest's


def random_paths(n: int, K: int = 1, seed: int = 0, depth: int = L, num_neurons: int = H) -> np.ndarray:
    """(n, L, K), the units of a layer distinct."""
    rng = np.random.default_rng(seed)
    return np.array([[rng.choice(num_neurons, K, replace=False) for _ in range(depth)] for _ in range(n)])


def classes_of(*paths: np.ndarray, labels=None, method: str = "ja", **names) -> Classes:
    labels = labels or range(len(paths))
    return Classes(dict(zip(labels, paths, strict=True)), {}, H, method, **names)


def write_records(directory: Path, paths: dict, key: str = "ja", images: dict | None = None, **settings) -> Path:
    """Records as the extraction scripts leave them, with args.json, of the paths (n, L, K) of each label."""
    directory.mkdir(parents=True, exist_ok=True)
    for label, found in paths.items():
        names = (images or {}).get(label) or [f"class{label}/{i:02d}.png" for i in range(len(found))]
        lines = [
            json.dumps({"image": image, "label": label, key: np.asarray(path).tolist()})
            for image, path in zip(names, found, strict=True)
        ]
        (directory / f"imgnet_all-{label}.rlt.jsonl").write_text("".join(line + "\n" for line in lines))
    args = {"job": "joint_attr", "settings": {"dataset": "imagefolder", "model_mlp_dim": H, **settings}, "versions": {}}
    (directory / "imgnet_all.args.json").write_text(json.dumps(args))
    return directory


@pytest.fixture
def records(tmp_path) -> Path:
    """Records of all images of `image_folder`."""
    return write_records(tmp_path / "ja", {label: random_paths(len(x), seed=label) for label, x in IMAGES.items()})


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a script in this process, with `tmp_path`/out for its output: exit code, stdout, lines on stderr."""

    def start(script: str, *arguments) -> tuple[int, str, list[str]]:
        file = ROOT / f"experiments/similarity/{script}.py"
        output = () if "--help" in arguments else ("--output_dir", tmp_path / "out")
        monkeypatch.setattr(sys, "argv", [str(file), *map(str, (*output, *arguments))])
        code = command(runpy.run_path(str(file))["main"])
        stdout, stderr = capsys.readouterr()
        assert "Traceback" not in stderr
        return code, stdout, [line for line in re.split(r"[\r\n]", stderr) if line.strip() and "it/s" not in line]

    return start


def fault(result) -> str:
    """The one line of a run that ended with exit code 2."""
    code, _, lines = result
    lines = [line for line in lines if ": warning: " not in line and "%|" not in line]
    assert (code, len(lines)) == (2, 1), result
    return lines[0]


class TestSimilarity:
    @pytest.mark.parametrize("K", [1, 3])
    def test_cosines_of_frequencies_as_plain_loops_give_them(self, K):
        paths = [random_paths(n, K, seed=n) for n in (4, 1, 7, 12)]
        arrays = []
        for found in paths:
            array = [[0.0] * H for _ in range(L)]
            for path in found.tolist():
                for layer, units in enumerate(path):
                    for unit in units:
                        array[layer][unit] += 1
            arrays.append([x for row in array for x in row])
        expected = [
            [sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b) for b in arrays]
            for a in arrays
        ]
        counts = frequencies(classes_of(*paths))
        assert counts.toarray().tolist() == arrays
        found = cosines(counts)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert found.dtype == np.float64
        assert (found == found.T).all()
        assert (found.diagonal() == 1).all()

    def test_neighbours_are_others_most_and_least_similar_first_and_ties_by_lowest_label(self):
        similarity = np.full((6, 6), 0.5)
        similarity[0, 5] = similarity[5, 0] = 0.75
        np.fill_diagonal(similarity, 1)
        found = neighbours(similarity, [2, 3, 5, 7, 11, 13])
        assert found["2"] == {"most": [[13, 0.75], [3, 0.5]], "least": [[3, 0.5], [5, 0.5]]}
        assert found["5"] == {"most": [[2, 0.5], [3, 0.5]], "least": [[2, 0.5], [3, 0.5]]}
        assert neighbours(similarity, [2, 3, 5, 7, 11, 13], top=1)["2"]["most"] == [[13, 0.75]]

    def test_classes_with_equal_paths_tie_exactly(self):
        paths = [random_paths(9, seed=i) for i in range(5)]
        found = cosines(frequencies(classes_of(*paths, *paths)))
        assert (found[:, :5] == found[:, 5:])[~np.eye(10, dtype=bool)[:, :5] & ~np.eye(10, dtype=bool)[:, 5:]].all()

    def test_no_list_is_longer_than_half_of_the_others_or_50(self):
        for C, count in ((2, 0), (3, 1), (10, 4), (120, 50)):
            x = np.random.default_rng(0).random((C, C))
            found = neighbours((x + x.T) / 2, list(range(C)))
            assert {len(chosen) for lists in found.values() for chosen in lists.values()} == {count}

    def test_planted_groups_stand_together_in_the_tree(self):
        rng, pools = np.random.default_rng(0), random_paths(3, K=4, seed=5)
        groups = [0, 1, 2, 1, 0, 2, 2, 0, 1, 1]
        paths = [np.take_along_axis(pools[[g] * 20], rng.integers(0, 4, (20, L, 1)), 2) for g in groups]
        _, order = cluster(cosines(frequencies(classes_of(*paths))))
        assert sum(groups[a] != groups[b] for a, b in itertools.pairwise(order)) == 2

    def test_modes_are_those_of_the_density_and_constant_layers_are_their_value(self):
        paths = np.zeros((4, 3, 1), dtype=int)
        paths[:, 0, 0] = 7
        paths[:, 1, 0] = (10, 11, 12, 27)
        paths[:, 2, 0] = (3, 3, 20, 21)
        found = modes(paths, H)
        assert found[0] == 7 / H
        grid, x = np.arange(H) / H, paths[:, 1, 0] / H
        width = x.std(ddof=1) * 4 ** (-1 / 5)
        assert found[1] == grid[np.exp(-((grid[:, None] - x) ** 2) / 2 / width**2).sum(1).argmax()]
        assert most_frequent(paths).tolist() == [7, 10, 3]
        assert modes(paths[:1], H).tolist() == [7 / H, 10 / H, 3 / H]


class TestConfusion:
    @pytest.mark.parametrize(
        ("recorded", "typed", "used"),
        [("native", None, "native"), ("native", "paper", "paper"), ("paper", None, "paper"), (None, None, "paper")],
    )
    def test_images_are_preprocessed_as_the_records_say(
        self,
        checkpoint,
        image_folder,
        tmp_path,
        run,
        recorded,
        typed,
        used,
    ):
        settings = {"model_img_size": 9} | ({"preprocess": recorded} if recorded else {})
        paths = {label: random_paths(len(images), seed=label) for label, images in IMAGES.items()}
        folder = write_records(tmp_path / "ja", paths, **settings)
        options = ["--results", folder, "--dataset_path", image_folder, "--pretrain_weight", checkpoint]
        code, _, errors = run("pair-sim", *options, *(["--preprocess", typed] if typed else []))
        assert code == 0, errors
        model, source = neuronpath.load(checkpoint), open_dataset("imagefolder", image_folder, 4)
        transform = preprocessing(used, model.config, "imagefolder")
        means = []
        for label, images in IMAGES.items():
            x = torch.stack([transform(source.rgb(Item(image, label))) for image in images])
            means.append(model(x).softmax(-1).numpy().mean(0))
        means = np.array(means)
        np.testing.assert_allclose(np.load(tmp_path / "out/confusion.npy"), (means + means.T) / 2, rtol=1e-4)

    def test_means_over_images_symmetrised_in_ascending_label(self):
        labels = np.array([3, 0, 3])
        p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.5, 0.1, 0.1, 0.3]])
        np.testing.assert_allclose(soft_confusion(p, labels), [[0.7, 0.2], [0.2, 0.35]])

    def test_correlation_is_spearmans_and_a_planted_relation_is_found(self):
        rng = np.random.default_rng(0)
        x, noise = (m + m.T for m in rng.random((2, 12, 12)))
        y = x**3 + 0.5 * noise
        r, p = mantel(x, y)
        upper = np.triu_indices(12, 1)
        assert r == pytest.approx(spearmanr(x[upper], y[upper]).statistic, abs=1e-12)
        assert p == 1 / 10_000
        assert mantel(x, y, 99) == mantel(x, y, 99)
        assert mantel(x, -y, 99)[1] == 1  # one-sided

    def test_p_is_uniform_where_there_is_no_relation(self):
        rng = np.random.default_rng(1)
        pairs = [[m + m.T for m in rng.random((2, 7, 7))] for _ in range(200)]
        p = np.array([mantel(x, y, 99, seed=i)[1] for i, (x, y) in enumerate(pairs)])
        assert 0.42 < p.mean() < 0.58
        assert (p <= 0.05).mean() < 0.1

    def test_classes_are_permuted_and_not_pairs(self):
        """One class unlike all others: of its rows, half of the arrangements of classes do as much, of pairs few."""
        x, y = np.zeros((2, 6, 6))
        x[0, 1:] = x[1:, 0] = (1, 2, 3, 4, 5)
        y[0, 1:] = y[1:, 0] = (2, 1, 3, 5, 4)
        upper = np.triu_indices(6, 1)

        def correlation(a):
            return spearmanr(a[upper], y[upper]).statistic

        observed = correlation(x)
        orders = [list(order) for order in itertools.permutations(range(6))]
        exact = np.mean([correlation(x[order][:, order]) >= observed - 1e-12 for order in orders])
        rng, pairs = np.random.default_rng(0), x[upper]
        shuffled = [spearmanr(rng.permutation(pairs), y[upper]).statistic >= observed - 1e-12 for _ in range(2000)]
        assert mantel(x, y, 4000)[1] == pytest.approx(exact, abs=0.015)
        assert abs(exact - np.mean(shuffled)) > 0.01

    def test_every_permutation_that_changes_nothing_counts(self):
        x = np.array([[1, 0.5, 0.2], [0.5, 1, 0.2], [0.2, 0.2, 1]])  # of 6 permutations 2 leave it as it is
        assert mantel(x, x, 2000)[1] == pytest.approx(1 / 3, abs=0.04)

    @pytest.mark.parametrize("x", [np.eye(2), np.eye(5)])
    def test_pairs_that_do_not_differ_are_refused(self, x):
        with pytest.raises(UserError, match="do not differ"):
            mantel(x, np.random.default_rng(0).random(x.shape))

    def test_pair_sim_runs_the_model_on_the_recorded_images_only(self, checkpoint, records, image_folder, run):
        few = write_records(records, {3: random_paths(2)}, images={3: IMAGES[3][3:]}, model_img_size=9)
        options = ("--results", few, "--dataset_path", image_folder, "--pretrain_weight", checkpoint)
        code, stdout, lines = run("pair-sim", *options, "--device", "cpu")
        assert code == 0, lines
        assert "n = 8 recorded images" in stdout
        model, source, rows = neuronpath.load(checkpoint), open_dataset("imagefolder", image_folder, 4), {}
        transform = preprocessing("paper", model.config)
        for label, images in (IMAGES | {3: IMAGES[3][3:]}).items():
            for image in images:
                x = transform(source.rgb(Item(image, label)))
                rows.setdefault(label, []).append(model(x[None]).softmax(-1)[0].numpy())
        means = np.array([np.mean(found, 0) for found in rows.values()])
        np.testing.assert_allclose(np.load(few.parent / "out/confusion.npy"), (means + means.T) / 2, rtol=1e-5)

    def test_other_weights_are_a_warning(self, checkpoint, records, image_folder, run):
        write_records(records, {}, checkpoint_sha256="0" * 64)
        options = ("--results", records, "--dataset_path", image_folder, "--pretrain_weight", checkpoint)
        code, _, lines = run("pair-sim", *options)
        assert code == 0
        assert any("not the weights" in line for line in lines)

    def test_records_of_images_that_are_not_there_are_refused(self, image_folder):
        source = open_dataset("imagefolder", image_folder, 4)
        for image in ("../secret.png", "class1/00.png", "/etc/passwd"):
            with pytest.raises(UserError, match="is not in that class"):
                recorded_items(Classes({0: random_paths(1)}, {0: [image]}, H, "ja"), source)

    def test_released_records_are_joined_by_position(self, image_folder):
        source = open_dataset("imagefolder", image_folder, 4)
        with pytest.warns(UserWarning, match="joined by position"):
            items = recorded_items(Classes({2: random_paths(2)}, {2: [None, None]}, H, "ja"), source)
        assert [item.image for item in items] == IMAGES[2]
        with pytest.raises(UserError, match="cannot be joined"):
            recorded_items(Classes({2: random_paths(1)}, {2: [None]}, H, "ja"), source)


class TestReading:
    def test_top_k_records_and_one_class_of_one_image(self, tmp_path):
        paths = {0: random_paths(4, 3), 7: random_paths(1, 3)}
        found = read_classes(write_records(tmp_path, paths), "imgnet_all", "ja", H)
        assert found.labels == [0, 7]
        assert all((found.paths[label] == paths[label]).all() for label in paths)
        assert frequencies(found).sum(1).tolist() == [[4 * L * 3], [L * 3]]

    def test_released_layout_without_args_or_images(self, tmp_path):
        lines = [[{"ja": [list(range(6))], "base": [[3] * 6]}], {"ja": [[9, 1, 2, 3, 4, 5]], "base": [[[4] * 6]]}]
        (tmp_path / "imgnet_all-5.rlt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / "imgnet_all-6.rlt.jsonl").write_text("")
        found = read_classes(tmp_path, "imgnet_all", "ja")
        assert found.paths[5].tolist() == [[[i] for i in range(6)], [[i] for i in (9, 1, 2, 3, 4, 5)]]
        assert (found.labels, found.images, found.num_neurons) == ([5], {5: [None, None]}, 10)

    @pytest.mark.parametrize(
        ("paths", "said"),
        [
            ([[[1]] * 6, [[1]] * 5], "paths of 2 shapes"),
            ([[[1]] * 5 + [[1, 2]]], "without ja"),
            ([[[1]] * 5 + [[]]], "without ja"),
            ([[[1]] * 5 + [[-1]]], "without ja"),
            ([[[1]] * 5 + [[True]]], "without ja"),
            ([[[1]] * 5 + [[10**30]]], "without ja"),
            ([[]], "without ja"),
            ([[[1]] * 5 + [[H]]], "unit 28 in its paths"),
        ],
    )
    def test_broken_paths_are_one_line(self, paths, said, tmp_path):
        lines = [json.dumps({"image": str(i), "ja": path}) + "\n" for i, path in enumerate(paths)]
        (tmp_path / "imgnet_all-0.rlt.jsonl").write_text("".join(lines))
        with pytest.raises(UserError, match=said):
            read_classes(tmp_path, "imgnet_all", "ja", H)

    def test_an_image_without_a_textual_name_is_one_line(self, tmp_path):
        write_records(tmp_path, {0: random_paths(1)}, images={0: [["a.png"]]})
        with pytest.raises(UserError, match="no text"):
            read_classes(tmp_path, "imgnet_all", "ja", H)

    def test_two_records_of_one_image_are_refused(self, tmp_path):
        write_records(tmp_path, {0: random_paths(2)}, images={0: ["a.png", "a.png"]})
        with pytest.raises(UserError, match="line 2: a second record of a"):
            read_classes(tmp_path, "imgnet_all", "ja", H)

    def test_another_methods_records_say_which_to_give(self, records):
        with pytest.raises(UserError, match="takes the records of influence_pattern"):
            read_classes(records, "imgnet_all", "influence_pattern", H)


class TestNames:
    def test_imagenets_are_1000_in_label_order(self):
        names = class_names("imagenet1k", Path("nowhere"))
        assert len(set(names)) == len(names) == 1000
        assert [names[i] for i in (0, 146, 178, 232, 248, 999)] == [
            "tench",
            "albatross",
            "Weimaraner",
            "Border collie",
            "Eskimo dog",
            "toilet tissue",
        ]

    def test_a_folders_are_its_class_folders(self, image_folder):
        assert class_names("imagefolder", image_folder) == [f"class{i}" for i in range(4)]
        for root in (image_folder / "class0", image_folder / "none"):
            with pytest.raises(UserError, match="--dataset_path"):
                class_names("imagefolder", root)

    def test_a_recorded_path_is_followed_below_the_root_only(self):
        assert _below_root("tests") == ROOT / "tests"
        for path in ("/etc", "..", "../..", "tests/../..", ".", "tests/none", "\0", "a" * 5000, 3, None, ["tests"]):
            assert _below_root(path) is None

    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("../x", "x"),
            ("/etc/passwd", "etc_passwd"),
            ("..", "_"),
            ("", "_"),
            ("Border collie", "Border_collie"),
            ("犬 ñ", "犬_ñ"),
            ("a\0b\n", "a_b_"),
            ("\udcff", "_"),
            ("n02099601", "n02099601"),
        ],
    )
    def test_names_become_safe_file_names(self, name, safe):
        assert safe_name(name) == safe
        assert len(safe_name(name * 500).encode()) <= 80

    def test_images_never_leave_their_folder(self, tmp_path):
        source = tmp_path / "source"
        (source / "k").mkdir(parents=True)
        Image.new("RGB", (3, 4)).save(source / "k/..x.png")
        Image.new("RGB", (5, 4)).save(source / "k/.x.png")
        (tmp_path / "kept.png").write_text("kept")
        folder = tmp_path / "out/0_k"
        folder.mkdir(parents=True)
        (folder / "x.png").symlink_to(tmp_path / "kept.png")
        items = [Item("k/..x.png", 0), Item("k/.x.png", 0)]
        assert export_images(ImageSet(source, ["k"], items), items, folder) == 2
        assert [Image.open(folder / name).size for name in ("x.png", "x-1.png")] == [(3, 4), (5, 4)]
        assert (tmp_path / "kept.png").read_text() == "kept"
        (tmp_path / "out/link").symlink_to(source)
        with pytest.raises(UserError, match="leads elsewhere"):
            export_images(ImageSet(source, ["k"], items), items, tmp_path / "out/link")

    def test_a_file_that_is_no_image_is_not_copied(self, tmp_path):
        (tmp_path / "k").mkdir()
        (tmp_path / "k/a.png").write_text("secret")
        items = [Item("k/a.png", 0)]
        with pytest.raises(UserError, match="cannot be read"):
            export_images(ImageSet(tmp_path, ["k"], items), items, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_arrays_become_png(self, tmp_path):
        arrays = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        items = [Item("3", 1), Item("2", 1)]
        assert export_images(ImageSet(tmp_path, ["cat", "dog"], items, arrays), items, tmp_path / "out") == 2
        for item in items:
            assert (np.asarray(Image.open(tmp_path / f"out/{item.image}.png")) == arrays[int(item.image)]).all()


class TestPictures:
    def test_violins_of_one_image_of_constant_layers_and_of_top_k(self, tmp_path):
        constant = random_paths(5, 3, seed=1)
        constant[:, 2] = (4, 5, 6)
        one_unit = np.full((5, L, 1), 9)
        for paths in (random_paths(1), random_paths(1, 3), constant, one_unit, random_paths(2)):
            classes = classes_of(paths, names={0: r"a $\frac{ \$ _^ class"})
            figure = plot_classes(classes, [0])
            assert len(figure.axes) == 1
            assert f"n = {len(paths)} image" in figure.axes[0].get_title()
            assert "carries no meaning" in figure.get_supxlabel().replace("\n", " ")
            assert [p.stat().st_size > 1000 for p in save(figure, tmp_path / "a")] == [True, True]

    def test_mode_and_most_frequent_unit_are_drawn(self):
        paths = random_paths(9, seed=3)
        axes = plot_classes(classes_of(paths, paths, paths), [0, 1, 2]).axes
        assert [a.axison for a in axes] == [True, True, True, False]
        dashed, marked = axes[0].lines
        assert dashed.get_linestyle() == "--"
        np.testing.assert_array_equal(dashed.get_ydata(), modes(paths, H))
        np.testing.assert_array_equal(marked.get_ydata() * H, most_frequent(paths))
        assert [t.get_text() for t in axes[0].texts] == [str(unit) for unit in most_frequent(paths)]

    @pytest.mark.parametrize("C", [2, 10, 80])
    def test_heat_map_names_every_class_in_the_order_of_the_tree(self, C, tmp_path):
        paths = [random_paths(3, seed=i) for i in range(C)]
        classes = classes_of(*paths, names={1: "one $ two"})
        similarity = cosines(frequencies(classes))
        figure = plot_similarity(similarity, classes)
        tree, heat = figure.axes[:2]
        order = cluster(similarity)[1]
        labels = [t.get_text() for t in heat.get_yticklabels()]
        assert labels == [shown(classes.title(i)) for i in order]
        assert tree.get_ylim() == heat.get_ylim()
        assert f"n = {C} classes, 3 images each" in figure.get_supxlabel().replace("\n", " ")
        figure.draw_without_rendering()
        size, renderer = figure.get_size_inches() * figure.dpi, FigureCanvasAgg(figure).get_renderer()
        boxes = [t.get_window_extent(renderer) for t in heat.get_yticklabels()]
        assert all(box.x0 >= 0 and box.x1 <= size[0] for box in boxes)
        heights = sorted((box.y0, box.y1) for box in boxes)
        assert all(below[1] < above[0] + 1.5 for below, above in itertools.pairwise(heights))

    def test_a_tree_as_deep_as_it_can_be(self):
        C = 1500  # class after class joins all before it
        similarity = 1 - np.maximum.outer(np.arange(C), np.arange(C)) / C
        np.fill_diagonal(similarity, 1)
        assert len(plot_similarity(similarity, classes_of(*[random_paths(1)] * C)).axes) == 3

    def test_a_page_and_a_picture_for_every_class(self, tmp_path):
        classes = classes_of(random_paths(3), random_paths(1), labels=(4, 19))
        book, folder = save_pages(classes, tmp_path)
        assert sorted(p.name for p in folder.iterdir()) == ["19.png", "4.png"]
        assert len(re.findall(rb"/Type /Page\b(?!s)", book.read_bytes())) == 2


class TestScripts:
    @pytest.mark.parametrize("script", SCRIPTS)
    def test_help_says_every_option(self, script, run, capsys):
        with pytest.raises(SystemExit) as end:
            run(script, "--help")
        assert end.value.code == 0
        own = {
            "pair-sim": "--top --pretrain_weight --model_type --img_size --num_heads --preprocess --batch_size "
            "--device",
            "paper-plot": "--classes",
            "freq-figure-all": "",
            "name2img": "--names --classes --count",
        }
        text = capsys.readouterr().out
        shared = "--results --method --input_prefix --output_dir --dataset --dataset_path --mlp_dim"
        for option in f"{shared} {own[script]}".split():
            assert re.search(rf"\n  (-h, )?{option} [A-Z{{]", text), option

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_from_the_root_and_from_its_folder(self, script, records, image_folder, tmp_path):
        (records / "imgnet_all-1.rlt.jsonl").write_text("")
        own = {"paper-plot": ("--classes", 0, 1, 3), "name2img": ("--classes", 0, 1, 3)}.get(script, ())
        written = []
        for i, cwd in enumerate((ROOT, ROOT / "experiments/similarity")):
            options = ("--results", records, "--dataset_path", image_folder, "--output_dir", tmp_path / f"{i}")
            result = run_script(f"experiments/similarity/{script}.py", *options, *own, cwd=cwd)
            assert result.returncode == 0, result.stderr
            assert "left out, without records: 1 (class1)" in result.stderr
            written.append(sorted(p.relative_to(tmp_path / f"{i}") for p in (tmp_path / f"{i}").rglob("*")))
        assert written[0] == written[1] != []

    def test_pair_sim_writes_the_matrix_its_labels_and_the_neighbours(self, tmp_path, image_folder, run):
        paths = {label: random_paths(4, seed=label) for label in (0, 2, 3)}
        results = write_records(tmp_path / "r", paths)
        code, _, lines = run("pair-sim", "--results", results, "--dataset_path", image_folder, "--top", 1)
        assert code == 0, lines
        out = tmp_path / "out"
        similarity = np.load(out / "similarity.npy")
        np.testing.assert_array_equal(similarity, cosines(frequencies(classes_of(*paths.values()))))
        assert json.loads((out / "labels.json").read_text()) == [0, 2, 3]
        pairs = json.loads((out / "pair_sim.json").read_text())
        assert list(pairs) == ["0", "2", "3"]
        best = max((1, 2), key=lambda j: (similarity[0, j], -j))
        assert pairs["0"]["most"] == [[[0, 2, 3][best], similarity[0, best]]]
        assert not (out / "confusion.npy").exists()
        assert (out / "similarity.png").stat().st_size > 1000 < (out / "similarity.pdf").stat().st_size

    def test_every_method_reads_its_own_paths(self, tmp_path, image_folder, run):
        paths = {label: random_paths(4, seed=label) for label in range(4)}
        for method, key in (("base", "base"), ("influence_pattern", "path")):
            results = write_records(tmp_path / method, paths, key=key)
            options = ("--results", results, "--dataset_path", image_folder, "--method", method)
            assert run("pair-sim", *options)[0] == 0
            assert "without ja" in fault(run("pair-sim", *options[:4]))

    def test_paper_plot_names_the_classes_there_are(self, tmp_path, image_folder, run):
        results = write_records(tmp_path / "r", {1: random_paths(2), 3: random_paths(2)})
        message = fault(run("paper-plot", "--results", results, "--dataset_path", image_folder))
        assert re.search(r"no records of classes 146, 178, 232, 248; .* 1 \(class1\), 3 \(class3\)", message)
        assert not (tmp_path / "out").exists()

    def test_name2img_copies_the_chosen_images(self, records, image_folder, tmp_path, run):
        options = ("--results", records, "--dataset_path", image_folder, "--count", 2)
        code, stdout, _ = run("name2img", *options, "--names", "class3", "class1")
        assert code == 0
        assert stdout.count("images  ") == 2
        copies = sorted(p for p in (tmp_path / "out").rglob("*.png"))
        assert [p.relative_to(tmp_path / "out").as_posix() for p in copies] == [
            "1_class1/00.png",
            "3_class3/00.png",
            "3_class3/01.png",
        ]
        assert copies[1].read_bytes() == (image_folder / "class3/00.png").read_bytes()

    def test_name2img_of_hostile_class_folders(self, tmp_path, run):
        names = [" ..x", "..犬 dog", "$HOME;rm -rf", "-rf"]
        for name in names:
            (tmp_path / "data" / name).mkdir(parents=True)
            Image.new("L", (4, 4)).save(tmp_path / "data" / name / "a b;.png")
        results = write_records(tmp_path / "r", dict.fromkeys(range(4), random_paths(1)))
        options = ("--results", results, "--dataset_path", tmp_path / "data")
        for chosen in (("--classes", 0, 1, 2, 3), (f"--names={names[3]}",), ("--names", *names[:3])):
            assert run("name2img", *options, *chosen)[0] == 0
        found = [p.relative_to(tmp_path / "out").as_posix() for p in sorted((tmp_path / "out").rglob("*.png"))]
        assert found == ["0_x/a_b_.png", "1_HOME_rm_-rf/a_b_.png", "2_-rf/a_b_.png", "3_犬_dog/a_b_.png"]

    def test_name2img_of_an_unknown_name_says_the_closest(self, records, image_folder, tmp_path, run):
        options = ("--results", records, "--dataset_path", image_folder)
        assert "'Class2'; the closest are 'class2'" in fault(run("name2img", *options, "--names", "Class2"))
        assert "'../x'" in fault(run("name2img", *options, "--names", "../x"))
        assert "'Border collie'" in fault(
            run("name2img", *options, "--dataset", "imagenet1k", "--names", "border coly")
        )
        assert not (tmp_path / "out").exists()
        inside = fault(run("name2img", *options, "--classes", 1, "--output_dir", image_folder / "new"))
        assert "within the data set" in inside

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--results", "none"), "no such folder"),
            (("--input_prefix", "other"), "no records named other-"),
            (("--input_prefix", "../x"), "plain file name"),
            (("--method", "ig"), "invalid choice"),
            (("--mlp_dim", 3), "a layer has 3"),
            (("--dataset_path", "none"), "give --dataset_path"),
            (("--res", "x"), "unrecognized arguments"),
            (("--output_dir", __file__), "cannot be written"),
            (("--top", 0), "whole number from 1"),
            (("--pretrain_weight", "none.npz"), "none.npz"),
        ],
    )
    def test_every_mistake_is_one_line(self, options, said, records, image_folder, run, tmp_path):
        message = fault(run("pair-sim", "--results", records, "--dataset_path", image_folder, *options))
        assert said in message, message
        assert not (tmp_path / "out").exists()

    def test_too_few_classes_are_one_line(self, tmp_path, image_folder, run):
        results = write_records(tmp_path / "r", {2: random_paths(3)})
        options = ("--results", results, "--dataset_path", image_folder)
        assert "records of 1 class only" in fault(run("pair-sim", *options))
        (results / "imgnet_all-2.rlt.jsonl").write_text("")
        for script in ("pair-sim", "freq-figure-all"):
            assert "no records of classes 0 (class0), 1 (class1)" in fault(run(script, *options))
        write_records(results, {4: random_paths(3)})
        assert "label 4, but imagefolder at" in fault(run("freq-figure-all", *options))
        assert not (tmp_path / "out").exists()

    def test_hostile_settings_are_refused_or_not_followed(self, records, image_folder, run):
        file = records / "imgnet_all.args.json"
        good = json.loads(file.read_text())
        for key, value in (("model_mlp_dim", "8"), ("model_mlp_dim", 10**12), ("dataset", "../x"), ("dataset", [1])):
            file.write_text(json.dumps({**good, "settings": {**good["settings"], key: value}}))
            assert str(file) in fault(run("pair-sim", "--results", records, "--dataset_path", image_folder))
        file.write_text(json.dumps({**good, "options": {"dataset_path": str(image_folder)}}))  # not below the root
        assert "imagenet2012/val: no " in fault(run("name2img", "--results", records, "--names", "class1"))

    def test_without_the_data_set_labels_stand_for_names(self, records, run):
        code, _, lines = run("pair-sim", "--results", records)
        assert code == 0
        assert "labels stand for the names" in "".join(lines)
