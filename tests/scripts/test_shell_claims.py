"""The shell scripts of the experiments: which commands they run, with which options, in which order, what stops them.

In a copy of the checkout, with a `python` that notes what it is asked for instead of doing it.
"""

from itertools import product

import pytest
from shells import MANIPULATION, row, stages


class TestReproduce:
    def extraction(self, script: str, job: str, model: str, file: str, common: str, rule: str) -> str:
        given = f"{common} --model_type {model} --pretrain_weight {file} --output_dir @/r/{job}/{model}"
        return f"@/{script}.py {given}{rule}"

    def jobs(self, model: str, file: str, common: str, rule: str, shares) -> list[str]:
        """Those of one model, as the script's head and the README say."""
        kind, suffix = ("MAE", "_mae") if model.startswith("MAE") else ("ViT", "")
        common_of = (model, file, common)
        out = [
            self.extraction(f"path/joint_attr{suffix}", "ja", *common_of, rule),
            self.extraction(f"path/influence_pattern{suffix}", "influence_pattern", *common_of, rule),
        ]
        paths = f" --ja_path @/r/ja/{model} --influence_pattern_path @/r/influence_pattern/{model}"
        for method in ("base", "influence_pattern", "ja", "random"):
            job = f"edit/remove_enhance/{method}"
            more = f" --method {method}{paths}"
            out.append(self.extraction(f"{MANIPULATION}/{kind}/edit", job, *common_of, more))
        if kind == "ViT":
            out.append(self.extraction("topK/path/joint_attr", "ja_top5", *common_of, f" --topK 5{rule}"))
            for method, tokens, p in product(("ja", "base", "random"), ("cls", "all"), shares):
                job, how = f"pruning/{method}/k5-p{p}-all-{tokens}", f" --topK 5 --mask_proportion {p}"
                more = f" --edit_operation prune{how} --prune_tokens {tokens} --method {method}"
                more += f" --ja_path @/r/ja_top5/{model}"
                out.append(self.extraction(f"topK/{MANIPULATION}/ViT/edit", job, *common_of, more))
        return [*out, self.extraction("scripts/top_images", "top_images", *common_of, "")]

    def similarity(self, model: str, file: str, classes: str, where: str, common: str) -> list[str]:
        given = f"--model_type {model} --pretrain_weight {file}"
        similar = f"--results @/r/ja/{model} --dataset_path {where} --output_dir @/r/similarity/{model}"
        return [
            f"@/scripts/unit_maps.py {common} {given} --results @/r",
            f"@/experiments/similarity/pair-sim.py {similar} {given}",
            f"@/experiments/similarity/paper-plot.py {similar}{classes}",
        ]

    def end(self, models, data: str, smaller: str = "") -> list[str]:
        """`smaller`: options of the study of smaller models, none where there are no training images."""
        where = "--kept @/r/shrink --output @/r/shrink/study"
        return [
            f"@/topK/{MANIPULATION}/analysis/plot_probability_deviation.py --results @/r/pruning",
            *([f"@/scripts/study_shrink.py {smaller} {where}"] if smaller else []),
            f"@/scripts/table.py --results @/r --models {' '.join(models)} --json @/r/table.json",
            f"@/scripts/atlas.py --results @/r --models {' '.join(models)} {data} --output @/r/atlas",
        ]

    @pytest.mark.parametrize("launch", [None, "torchrun --nproc_per_node 8", "python"])
    def test_the_papers_models_by_default(self, checkout, launch):
        """All in one process, or with LAUNCH the jobs of each model in its processes, and the rest in one."""
        files = {
            "ViT-B_16": "@/ckpt/ViT-B_16-224.npz",
            "ViT-B_32": "@/ckpt/ViT-B_32.npz",
            "ViT-L_32": "@/ckpt/ViT-L_32.npz",
            "MAE-B_16": "@/ckpt/mae_finetuned_vit_base.pth",
        }
        checkout.touch(*(file[2:] for file in files.values()))
        checkout.command("torchrun")
        where, rule = "@/dataset/imagenet2012/val", " --quadrature left --ig_total_step 20"
        common = f"--dataset imagenet1k --dataset_path {where} --labels 0-99"
        given = {"RESULTS": str(checkout.root / "r")} | ({"LAUNCH": launch} if launch else {})
        found = checkout.run("scripts/reproduce.sh", "--labels", "0-99", **given)
        end = self.end(files, f"--dataset imagenet1k --dataset_path {where}")
        weights, shares = " ".join(files.values()), ("0.25", "0.5", "0.75", "1")
        check = (
            f"@/scripts/check.py --checks weights data cost --pretrain_weight {weights} --img_size 224{rule} {common}"
        )
        jobs = {name: self.jobs(name, file, common, rule, shares) for name, file in files.items()}
        pictures = {name: self.similarity(name, file, "", where, common) for name, file in files.items()}
        if launch:
            each = [line for name in files for line in (row(*jobs[name], start=launch), row(*pictures[name]))]
            assert found == [row(check), *each, row(*end)]
        else:
            each = [stage for name in files for stage in (*jobs[name], *pictures[name])]
            assert found == [row(check, *each, *end)]

    def test_smoke(self, checkout):
        files = {"ViT-digits": "@/ckpt/ViT-digits.npz", "MAE-digits": "@/ckpt/MAE-digits.pth"}
        checkout.touch(*(file[2:] for file in files.values()))
        where, rule = "@/dataset/digits/val", " --quadrature gauss-legendre --ig_total_step 4"
        common = f"--dataset digits --dataset_path {where} --images_per_class 6"
        found = checkout.run("scripts/reproduce.sh", "--smoke", RESULTS=str(checkout.root / "r"))
        anew, classes = f"--overwrite {common}", " --classes 3 5 8 9"
        weights = " ".join(files.values())
        each = [
            stage
            for name, file in files.items()
            for stage in (
                *self.jobs(name, file, anew, rule, ["1"]),
                *self.similarity(name, file, classes, where, common),
            )
        ]
        check = f"@/scripts/check.py --checks weights data cost --pretrain_weight {weights}{rule} {common}"
        end = self.end(files, f"--dataset digits --dataset_path {where}")
        assert found == ["python @/scripts/train_digits.py", row(check, *each, *end)]

    def test_smaller_models_where_there_are_training_images(self, checkout):
        checkout.touch("ckpt/ViT-B_32.npz", "ckpt/ViT-digits.npz", "dataset/digits/train/x", "train/x")
        r, rule = str(checkout.root / "r"), "--importances path_1 taylor_all --shares 0.5"
        (*_, last) = checkout.run("scripts/reproduce.sh", "--smoke", MODELS="ViT-digits", RESULTS=r)
        assert not checkout.found.stderr
        given = "--dataset digits --dataset_path @/dataset/digits/val --images_per_class 6"
        given += " --pretrain_weight @/ckpt/ViT-digits.npz --training_path @/dataset/digits/train"
        data = "--dataset digits --dataset_path @/dataset/digits/val"
        assert stages(last)[-4:] == self.end(["ViT-digits"], data, f"{given} --training_per_class 1 {rule}")

        rule = "--importances path_1 activation taylor taylor_all magnitude random --shares 0.9 0.7 0.5 0.3"
        for each, more in (("", " --images_per_class 5"), ("3", "")):
            train = {"TRAIN_PATH": str(checkout.root / "train"), "TRAIN_PER_CLASS": "7", "IMAGES_PER_CLASS": each}
            (last,) = checkout.run("scripts/reproduce.sh", "--no_cuda", MODELS="ViT-B_32", RESULTS=r, **train)
            given = "--dataset imagenet1k --dataset_path @/dataset/imagenet2012/val"
            given += f"{' --images_per_class 3' if each else ''} --no_cuda --img_size 224"
            given += " --pretrain_weight @/ckpt/ViT-B_32.npz --training_path @/train --training_per_class 7"
            data = "--dataset imagenet1k --dataset_path @/dataset/imagenet2012/val"
            assert stages(last)[-4:] == self.end(["ViT-B_32"], data, f"{given} {rule}{more}")

        checkout.run("scripts/reproduce.sh", MODELS="ViT-B_32", RESULTS=r)
        where = f"{checkout.root}/dataset/imagenet2012/train"
        assert checkout.fault == f"reproduce.sh: smaller models are left out: TRAIN_PATH={where} is no folder"

    @pytest.mark.parametrize(("smoke", "folder"), [((), "paper"), (("--smoke",), "smoke")])
    def test_results_and_checkpoints_are_in_the_checkout_unless_said_otherwise(self, checkout, smoke, folder, tmp_path):
        checkout.touch("ckpt/MAE-digits.pth", "elsewhere/MAE-digits.pth")
        *_, found = checkout.run("scripts/reproduce.sh", *smoke, MODELS="MAE-digits", cwd=tmp_path)
        *_, table, _ = stages(found)
        assert table.startswith(f"@/scripts/table.py --results @/results/{folder} ")
        given = {"CKPT": "@/elsewhere", "DATASET_PATH": "@/images", "IMAGES_PER_CLASS": "2", "QUADRATURE": "right"}
        given = {key: value.replace("@", str(checkout.root)) for key, value in given.items()}
        *trained, checked, jobs, _, _ = checkout.run(
            "scripts/reproduce.sh", *smoke, MODELS="MAE-digits", STEPS="7", LAUNCH="python -u", **given
        )
        assert len(trained) == len(smoke)
        (check,), (search, *_) = stages(checked), stages(jobs, "python -u")
        assert check.startswith("@/scripts/check.py ")
        assert search.startswith("@/path/joint_attr_mae.py ")
        for line in (check, search):
            assert "--dataset_path @/images --images_per_class 2" in line
            assert "--quadrature right --ig_total_step 7" in line
            assert "@/elsewhere/MAE-digits.pth" in line

    def test_only_newer_digits_models_overwrite(self, checkout):
        checkout.touch("ckpt/ViT-digits.npz", "results/x/ja/ViT-digits/imgnet_all.args.json")
        given = {"MODELS": "ViT-digits", "RESULTS": str(checkout.root / "results/x")}
        _, found = checkout.run("scripts/reproduce.sh", "--smoke", **given)
        _, search, influence, *_ = stages(found)
        assert "--overwrite" not in search, "the records are newer than the model"
        assert "--overwrite" in influence
        assert not [line for line in checkout.run("scripts/reproduce.sh", **given) if "--overwrite" in line]

    @pytest.mark.parametrize("code", [2, 4, 130])
    @pytest.mark.parametrize("launch", ["", "torchrun --standalone"])
    def test_a_code_stops_it_and_is_its_own(self, checkout, code, launch):
        """Of skipped images, code 3, `stages.py` makes none: tests/scripts/test_stages.py."""
        checkout.touch("ckpt/mae_finetuned_vit_base.pth")
        checkout.command("torchrun")
        fails = {"FAILS": "/path/joint_attr", "CODE": str(code), "LAUNCH": launch}
        found = checkout.run("scripts/reproduce.sh", MODELS="MAE-B_16", code=code, **fails)
        start = launch or "python"
        assert stages(found[-1], start)[0 if launch else 1].startswith("@/path/joint_attr_mae.py ")
        assert len(found) == (2 if launch else 1)

    def test_without_a_vit_there_is_no_pruning(self, checkout):
        checkout.touch("ckpt/MAE-L_16.pth")
        (found,) = checkout.run("scripts/reproduce.sh", MODELS="MAE-L_16")
        assert "prun" not in found
        assert "--pretrain_weight @/ckpt/MAE-L_16.pth" in stages(found)[1]

    def test_a_missing_checkpoint_stops_it(self, checkout):
        assert checkout.run("scripts/reproduce.sh", MODELS="ViT-H_14", code=2) == []
        said = f"reproduce.sh: {checkout.root}/ckpt/ViT-H_14.npz: no such file; fetch it with "
        assert checkout.fault == f"{said}scripts/download_weights.sh or give CKPT"


class TestEdits:
    @pytest.mark.parametrize(
        ("script", "kind", "ending", "measures"),
        [
            ("ViT/scripts/edit_accuracy", "ViT", "npz", "accuracy"),
            ("ViT/scripts/edit_logits", "ViT", "npz", "probability paired"),
            ("MAE/scripts/edit", "MAE", "pth", "accuracy probability paired"),
        ],
    )
    def test_every_method_and_the_table(self, checkout, script, kind, ending, measures, tmp_path):
        model, demo = f"{kind}-digits", "@/results/demo"
        found = checkout.run(f"{MANIPULATION}/{script}.sh", "--gain", "3", cwd=tmp_path)
        given = f"--images_per_class 10 --dataset digits --pretrain_weight @/ckpt/{model}.{ending} --model_type auto"
        given += f" --influence_pattern_path {demo}/influence_pattern/{model} --ja_path {demo}/ja/{model}"
        edits = [
            f"@/{MANIPULATION}/{kind}/edit.py --method {method} {given} "
            f"--output_dir {demo}/edit/remove_enhance/{method}/{model} --gain 3"
            for method in ("base", "influence_pattern", "ja", "random")
        ]
        assert found == [
            row(*edits, f"@/scripts/table.py --results {demo} --models {model} --measures {measures}"),
        ]

    def test_the_environment_decides(self, checkout):
        given = {"DATASET": "imagenet1k", "DATASET_PATH": "/images", "PRETRAIN_WEIGHT": "/w/a.b.npz", "RESULTS": "/r"}
        paths = {"JA_PATH": "/ja", "INFLUENCE_PATTERN_PATH": "/ip"}
        script = f"{MANIPULATION}/ViT/scripts/edit_logits.sh"
        (found,) = checkout.run(script, **given, **paths)
        first, *_, table = stages(found)
        assert first.endswith(
            "--method base --dataset imagenet1k --dataset_path /images --pretrain_weight /w/a.b.npz --model_type auto "
            "--influence_pattern_path /ip --ja_path /ja --output_dir /r/edit/remove_enhance/base/a.b"
        )
        assert "--results /r --models a.b " in table
        (found,) = checkout.run(script, MODEL_TYPE="ViT-B_32", **given)
        named = "--model_type ViT-B_32 --influence_pattern_path /r/influence_pattern/ViT-B_32 --ja_path /r/ja/ViT-B_32"
        assert named in stages(found)[0]
        (found,) = checkout.run(script, IMAGES_PER_CLASS="3")
        assert "--images_per_class 3 --dataset digits" in stages(found)[0]

    def test_a_failure_stops_them(self, checkout):
        fails = {"FAILS": "--method influence_pattern", "CODE": "4"}
        assert len(checkout.run(f"{MANIPULATION}/MAE/scripts/edit.sh", code=4, **fails)) == 1
        pruning = f"topK/{MANIPULATION}/ViT/scripts/edit_logits.sh"
        assert len(checkout.run(pruning, code=4, FAILS="--method base", CODE="4")) == 1

    def test_pruning_sweeps_over_all_by_default(self, checkout, tmp_path):
        found = checkout.run(f"topK/{MANIPULATION}/ViT/scripts/edit_logits.sh", "--seed", "1", cwd=tmp_path)
        demo, edit = "@/results/demo", f"@/topK/{MANIPULATION}/ViT/edit.py --edit_operation prune"
        given = "--images_per_class 10 --dataset digits --pretrain_weight @/ckpt/ViT-digits.npz --model_type auto"
        given += f" --influence_pattern_path {demo}/influence_pattern/ViT-digits --ja_path {demo}/ja_top5/ViT-digits"
        sweep = product(("cls", "all"), ("1", "5"), ("0.5", "1"), ("ja", "base", "random"))
        edits = [
            f"{edit} --method {method} --topK {k} --mask_proportion {p} --prune_tokens {tokens} {given} "
            f"--output_dir {demo}/pruning/{method}/k{k}-p{p}-all-{tokens}/ViT-digits --seed 1"
            for tokens, k, p, method in sweep
        ]
        plot = f"@/topK/{MANIPULATION}/analysis/plot_probability_deviation.py --results {demo}/pruning"
        assert found == [row(*edits, plot)]

    def test_pruning_of_some_layers_and_by_a_newer_model(self, checkout):
        chosen = {"DEPTHS": "all 3", "TOKENS": "cls", "TOPKS": "2", "PROPORTIONS": "1", "METHODS": "ja"}
        out = "results/demo/pruning/ja/k2-p1-3-cls/ViT-digits"
        checkout.touch("ckpt/ViT-digits.npz", f"{out}/imgnet_all.args.json")
        (found,) = checkout.run(f"topK/{MANIPULATION}/ViT/scripts/edit_logits.sh", JA_PATH="/ja", **chosen)
        whole, three, _ = stages(found)
        assert "edit.py --overwrite --edit_operation prune" in whole
        assert "--depth_prune" not in whole
        assert "edit.py --edit_operation prune" in three
        assert "--depth_prune 3 --images_per_class 10 --dataset digits" in three
        assert three.endswith(f"--ja_path /ja --output_dir @/{out}")
