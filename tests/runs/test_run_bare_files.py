"""Jobs on files that do not tell all: what is assumed is said once and recorded, what is native is never guessed."""

import json

import pytest
import torch
from helpers import Command, fault, random_model, records, run_file, settings, tiny_config, words_of

from neuronpath import load
from neuronpath.data.images import open_dataset
from neuronpath.data.preprocessing import preprocessing
from neuronpath.models.checkpoint import save
from neuronpath.models.configs import CONFIGS
from neuronpath.pixels import Preprocessing, digits, google, mae

SAID = "; a folder with config.json, or --model_type timm:NAME, tells"
OWN = ("--mean", "0.1,0.2,0.3", "--std", "0.4,0.5,0.6", "--crop_pct", 0.8, "--interpolation", "bilinear")


@pytest.fixture
def bare(image_folder, tmp_path) -> Command:
    """The search command on a state dict that says nothing beside its arrays."""
    file = tmp_path / "bare.pth"
    torch.save(random_model(tiny_config(), dtype=torch.float32).state_dict(), file)
    return Command(file, image_folder, tmp_path / "out", steps=2, more=("--num_heads", 5))


def assumed(command: Command) -> list[str]:
    return json.loads((command.out / "imgnet_all.args.json").read_text()).get("assumed")


class TestAssumed:
    def test_it_is_said_once_and_recorded(self, bare):
        bare("--labels", "0,3")
        said = [line for line in bare.result.warnings if "assumed" in line]
        assert len(said) == 1
        assert said[0].endswith(f"warning: {bare.checkpoint}: assumed: exact GELU, head on CLS{SAID}")
        assert assumed(bare) == ["exact GELU", "head on CLS"]
        bare("--labels", "0,3")
        assert len([line for line in bare.result.warnings if "assumed" in line]) == 1

    def test_what_was_typed_is_not_assumed(self, bare):
        bare("--labels", 1, "--activation", "quick-gelu", "--pool", "cls")
        assert not bare.result.warnings
        assert assumed(bare) is None
        assert settings(bare.out)["model_activation"] == "quick-gelu"
        assert "model_activation quick-gelu → None" in bare("--labels", 1, "--pool", "cls", code=2)

    def test_other_processes_are_silent(self, bare, monkeypatch):
        for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
            monkeypatch.setenv(name, value)
        bare()
        assert not bare.result.warnings
        assert assumed(bare) == ["exact GELU", "head on CLS"]

    def test_records_of_plain_models_stay_comparable(self, run):
        run("--labels", 1)
        sizes = {key for key in settings(run.out) if key.startswith("model_")}
        assert sizes == {f"model_{key}" for key in tiny_config().to_dict()}
        assert sizes == {
            f"model_{key}"
            for key in ("patch_size", "img_size", "width", "depth", "num_heads", "mlp_dim", "num_classes", "pool")
        }

    def test_a_norm_before_the_mean_is_told_by_the_user(self, bare):
        bare.pool = "mean"
        said = bare("--labels", 1, code=2)
        assert "its head reads the CLS token (a ViT), not the mean patch token" in said
        assert said.endswith("(assumed; --pool mean where it is not so); run path/joint_attr.py")
        bare("--labels", 1, "--pool", "mean", "--activation", "gelu")
        assert settings(bare.out)["model_norm_first"] is True
        bare.pool = "cls"
        said = bare("--labels", 1, "--pool", "mean", "--activation", "gelu", code=2)
        assert said.endswith("not the CLS token (a ViT); run path/joint_attr_mae.py")

    def test_the_check_names_it(self, bare):
        given = {"--pretrain_weight": bare.checkpoint, "--dataset": "imagefolder", "--dataset_path": bare.images}
        words = words_of(given | {"--num_workers": 0, "--num_heads": 5}, "--checks", "weights", "accuracy")
        found = run_file("scripts/check.py", *words).expect()
        lines = found.stdout.splitlines()
        assert lines[1] == f"WARNING  weights   {bare.checkpoint}: assumed: exact GELU, head on CLS{SAID}"
        assert "native preprocessing is not known" in lines[-1]
        assert not found.lines
        native = run_file("scripts/check.py", *words, "--preprocess", "native").expect(2)
        assert "--preprocess native: nothing tells how the images were prepared" in native.stderr
        own = run_file("scripts/check.py", *words, "--preprocess", "native", *OWN).expect().stdout
        assert "% with --preprocess paper)" in own


class TestNative:
    def test_it_is_refused_before_anything_is_written(self, bare):
        said = bare.refused("--preprocess", "native")
        assert said.endswith(
            "--preprocess native: nothing tells how the images were prepared that this model was trained on; give "
            "--mean, --std, --crop_pct, --interpolation, or a --model_type, or use --preprocess paper"
        )
        assert "give --crop_pct, --interpolation, or" in bare.refused("--preprocess", "native", *OWN[:4])

    def test_what_was_typed_is_used_recorded_and_compared(self, bare):
        bare("--labels", 1, "--preprocess", "native", *OWN)
        found = settings(bare.out)
        assert {key: value for key, value in found.items() if key.startswith("preprocess")} == {
            "preprocess": "native",
            "preprocess_mean": [0.1, 0.2, 0.3],
            "preprocess_std": [0.4, 0.5, 0.6],
            "preprocess_size": 11,  # ⌊9 / 0.8⌋
            "preprocess_crop": 9,
            "preprocess_interpolation": "bilinear",
            "preprocess_rounding": "half-even",
        }
        assert "0 new, 1 from earlier" in bare("--labels", 1, "--preprocess", "native", *OWN)
        other = bare("--labels", 1, "--preprocess", "native", *OWN, "--crop_pct", 0.9, code=2)
        assert "preprocess_size 11 → 10" in other
        model, source = load(bare.checkpoint, num_heads=5), open_dataset("imagefolder", bare.images, 4)
        (record,), (item,) = records(bare.out).values(), source.select([1])
        native = Preprocessing(11, 9, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear")
        x = preprocessing("native", model.config, native=native)(source.rgb(item))
        assert record["prob"] == pytest.approx(model(x[None]).softmax(-1)[0, 1].item(), rel=1e-4)

    def test_parts_of_a_known_one_may_be_replaced(self, run):
        run("--labels", 1, "--preprocess", "native", "--mean", "0,0,0")
        found = settings(run.out)
        assert [found[f"preprocess_{name}"] for name in ("mean", "std", "size", "interpolation")] == [
            [0, 0, 0],
            [0.5] * 3,
            10,
            "bicubic",
        ]

    def test_parts_without_native_are_refused(self, run):
        for name, value in zip(OWN[::2], OWN[1::2], strict=True):
            said = run.refused(name, value)
            assert said.endswith(f"{name} counts for --preprocess native; give that, or leave it out")

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("--mean", "0.5", "must be three numbers such as 0.5,0.5,0.5, not '0.5'"),
            ("--mean", "0.5,0.5,x", "must be a finite number, not 'x'"),
            ("--mean", "0.5,0.5,nan", "must be a finite number, not 'nan'"),
            ("--std", "0.5,0.5,0", "must be three numbers above 0 such as 0.5,0.5,0.5, not '0.5,0.5,0'"),
            ("--crop_pct", "0", "must be above 0 and at most 1, not '0'"),
            ("--crop_pct", "1.01", "must be above 0 and at most 1, not '1.01'"),
            ("--interpolation", "cubic", "invalid choice: 'cubic'"),
        ],
    )
    def test_values_that_are_none(self, run, option, value, said):
        assert said in run.refused("--preprocess", "native", option, value)


class TestKnown:
    """The paper's files and the digits are known, by what they are or by the model type."""

    @staticmethod
    def file(folder, name: str, config, words: bool = False):
        model = random_model(config, dtype=torch.float32)
        if words or name.endswith("npz"):
            save(model, folder / name)
        else:
            torch.save({"model": model.state_dict()}, folder / name)
        return folder / name

    def test_google_by_the_layout_and_by_the_name(self, checkpoint, tmp_path):
        assert (load(checkpoint).native, load(checkpoint).assumed) == (google(9), ())
        assert load(checkpoint, img_size=384).native == google(384)
        config = CONFIGS["ViT-digits"]
        assert load(self.file(tmp_path, "a.npz", config)).native == digits(32)
        assert load(self.file(tmp_path, "b.npz", config), img_size=16).native == digits(16)
        assert load(self.file(tmp_path, "c.npz", config), "ViT-digits").native == digits(32)
        assert load(self.file(tmp_path, "d.npz", config.with_(num_classes=9))).native == google(32)

    def test_the_digits_with_a_mean_head(self, tmp_path):
        config = CONFIGS["MAE-digits"]
        new = load(self.file(tmp_path, "a.pth", config, words=True))
        assert (new.native, new.assumed) == (digits(32), ())
        bare = self.file(tmp_path, "b.pth", config)
        assert (load(bare, num_heads=4).native, load(bare, "MAE-digits").native) == (None, digits(32))
        torch.save({"model": torch.load(bare)["model"], "num_heads": 4}, tmp_path / "c.pth")  # as 0.1.0 wrote it
        old = load(tmp_path / "c.pth")
        assert (old.native, old.assumed) == (digits(32), ())

    def test_the_papers_mae_by_its_name_and_shapes(self, tmp_path, monkeypatch):
        config = tiny_config("mean")
        monkeypatch.setitem(CONFIGS, "MAE-B_16", config)
        monkeypatch.setattr("neuronpath.models.checkpoint.HEADS_BY_WIDTH", {20: 5})
        public = load(self.file(tmp_path, "mae_finetuned_vit_base.pth", config))
        assert (public.native, public.assumed, public.config) == (mae(9), (), config)
        other = load(self.file(tmp_path, "other.pth", config))
        assert (other.native, other.assumed) == (None, ("5 heads", "exact GELU", "head on the mean patch"))
        named = load(tmp_path / "other.pth", "MAE-B_16")
        assert (named.native, named.assumed) == (mae(9), ())
        shaped = load(self.file(tmp_path, "mae_finetuned_vit_base.pth", config.with_(depth=2)))
        assert shaped.native is None
        assert len(shaped.assumed) == 3

    def test_other_state_dicts_are_not(self, bare):
        assert load(bare.checkpoint, num_heads=5, pool="cls", activation="gelu").native is None
        assert "nothing tells" in fault(preprocessing, "native", tiny_config("mean"))
