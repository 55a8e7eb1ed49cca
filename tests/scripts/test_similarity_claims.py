"""The scripts of experiments/similarity: what each asks the package for, by default and as told, and what it prints.

In this process, with stand-ins for what the package does.
"""

from types import SimpleNamespace

from helpers import fault


class TestSimilarity:
    def test_pages_and_files_are_named(self, script, tmp_path):
        stand_ins = {
            "analysis.resolve": lambda options: "settings",
            "analysis.open_classes": lambda options, settings, *_, **more: SimpleNamespace(labels=[1, 2]),
        }
        pages = {"figures.save_pages": lambda classes, out: [out / "a.pdf", out / "a"]}
        printed = script("experiments/similarity/freq-figure-all.py", "--output_dir", tmp_path, **stand_ins, **pages)
        assert printed == f"pictures    {tmp_path}/a.pdf\npictures    {tmp_path}/a\n"
        exported = {
            "analysis.export_classes": lambda options, classes: [
                (tmp_path / "1_a", options.count),
                (tmp_path / "2_b", 7),
            ]
        }
        name = "experiments/similarity/name2img.py"
        printed = script(name, "--classes", 1, 2, "--count", 3, **stand_ins, **exported)
        assert printed == f"images      3 in {tmp_path}/1_a\nimages      7 in {tmp_path}/2_b\n"
        assert "one of the arguments --names --classes is required" in fault(script, name)
        assert "not allowed with argument --names" in fault(script, name, "--names", "a", "--classes", 1)

    def test_paper_plot_draws_the_papers_classes_unless_others_are_named(self, script, tmp_path):
        asked = []
        stand_ins = {
            "analysis.resolve": lambda options: "settings",
            "analysis.open_classes": lambda options, settings, chosen: (
                asked.append(chosen) or SimpleNamespace(labels=[9])
            ),
            "figures.plot_classes": lambda classes, labels: ("figure", labels),
            "figures.save": lambda figure, file: asked.append((figure, file)) or [file.with_name("a.png")],
        }
        for words, chosen in (((), [146, 178, 232, 248]), (("--classes", 3, 0), [3, 0])):
            printed = script("experiments/similarity/paper-plot.py", "--output_dir", tmp_path, *words, **stand_ins)
            assert printed == f"picture     {tmp_path}/a.png\n"
            assert asked == [chosen, (("figure", [9]), tmp_path / "paper-plot")]
            asked.clear()

    def test_pair_sim_correlates_where_weights_are_given(self, script, tmp_path):
        asked = []

        def noting(name, answer):
            return lambda *given, **more: asked.append((name, given[1:], more)) or answer

        stand_ins = {
            "analysis.resolve": lambda options: "settings",
            "analysis.open_classes": noting("open", SimpleNamespace(labels=[1, 2])),
            "analysis.frequencies": lambda classes: "counts",
            "analysis.cosines": lambda counts: "similarity",
            "analysis.check_confusion": noting("confusion", ("confused", 12)),
            "analysis.mantel": lambda a, b: asked.append((a, b)) or (0.12345, 0.00126),
            "analysis.neighbours": noting("neighbours", "pairs"),
            "analysis.write": lambda *given, **more: asked.append(("write", given[1:], more)) or [tmp_path / "a.npy"],
            "settle_threads": noting("threads", None),
            "figures.plot_similarity": lambda similarity, classes: similarity,
            "figures.save": noting("save", [tmp_path / "a.png"]),
        }
        files = f"file        {tmp_path}/a.npy\nfile        {tmp_path}/a.png\n"
        name = "experiments/similarity/pair-sim.py"
        assert script(name, "--output_dir", tmp_path, **stand_ins) == files
        drawn = ("save", (tmp_path / "similarity",), {})
        assert asked == [
            ("open", ("settings",), {"least": 2}),
            ("neighbours", ([1, 2], 50), {}),
            ("write", ([1, 2], "pairs"), {"similarity": "similarity"}),
            drawn,
        ]
        asked.clear()
        printed = script(name, "--output_dir", tmp_path, "--pretrain_weight", "a.npz", "--top", 3, **stand_ins)
        said = "Spearman's r = 0.123 with similarity, p = 0.0013 (Mantel test; n = 12 recorded images)"
        assert printed == f"confusion   {said}\n{files}"
        assert asked[1] == ("threads", (), {})
        assert asked[3:] == [
            ("similarity", "confused"),
            ("neighbours", ([1, 2], 3), {}),
            ("write", ([1, 2], "pairs"), {"similarity": "similarity", "confusion": "confused"}),
            drawn,
        ]
