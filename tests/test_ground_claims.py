"""What stands below every wing: errors in one line, files whole or not at all, signals in good order."""

import errno
import hashlib
import importlib
import importlib.util
import os
import shutil
import signal
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from neuronpath import files, interrupts
from neuronpath.errors import (
    NonFiniteError,
    UserError,
    disk_full,
    in_markdown,
    one_line,
    out_of_memory,
    printable,
    shortened,
)


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain é 日本 ›", "plain é 日本 ›"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\x1b[2J", "\\x1b[2J"),
            ("\udcff", "\\udcff"),
            ("\u202e\xa0", "\\u202e\\xa0"),
            ("it's \"\\", "it's \"\\"),
        ],
    )
    def test_what_cannot_be_printed_is_shown_as_an_escape(self, text, shown):
        assert printable(text) == shown == str(UserError(text))

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (ValueError(" two\n lines\t of  it "), "two lines of it"),
            (ValueError(""), "ValueError"),
            (KeyError(), "KeyError"),
            (ValueError("x" * 200), "x" * 200),
            (ValueError("x" * 201), "x" * 199 + "…"),
        ],
    )
    def test_one_line(self, error, line):
        assert one_line(error) == line

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("ViT-B_16", "ViT-B_16"),
            ("_a_ *b*", r"\_a\_ \*b\*"),
            ("<b>|[x](y)", r"\<b\>\|\[x\](y)"),
            ("$x$ `y` &lt; \\", r"\$x\$ \`y\` \&lt; " + 2 * "\\"),
            ("a\nb", r"a\\nb"),
        ],
    )
    def test_names_are_text_in_markdown(self, name, shown):
        assert in_markdown(name) == shown

    def test_another_length(self):
        assert one_line(ValueError("abcdef"), 5) == shortened("abcdef", 5) == "abcd…"
        assert shortened("a\nbcd", 5) == "a bcd"

    def test_results_that_are_not_finite(self):
        error = NonFiniteError(3, "scores of layer 2")
        assert str(error) == "image 3 of the batch: the scores of layer 2 are not finite"
        assert (error.image, error.what) == (3, "scores of layer 2")
        assert isinstance(error, FloatingPointError)

    @pytest.mark.parametrize(
        ("error", "short"),
        [
            (MemoryError(), True),
            (type("Subclass", (MemoryError,), {})("of NumPy's"), True),
            (torch.OutOfMemoryError(), True),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
            (RuntimeError("CUDA out of memory. Tried"), True),
            (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
            (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
            (ValueError("memory"), False),
        ],
    )
    def test_short_memory(self, error, short):
        assert out_of_memory(error) is short

    def test_a_full_disk(self):
        full = {code for code in errno.errorcode if disk_full(OSError(code, "x"))}
        assert full == {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        other = RuntimeError()
        other.errno = errno.ENOSPC
        assert not disk_full(other)


class TestFiles:
    def test_the_checkout_and_without_one_the_working_folder(self, tmp_path, monkeypatch):
        assert files.CHECKOUT == files.ROOT == ROOT
        copy = tmp_path / "site-packages/neuronpath/files.py"
        copy.parent.mkdir(parents=True)
        shutil.copy(files.__file__, copy)
        monkeypatch.chdir(tmp_path)
        for checkout in (False, True):
            if checkout:
                (tmp_path / "site-packages/pyproject.toml").touch()
            spec = importlib.util.spec_from_file_location("neuronpath.a_copy", copy)
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
            here = tmp_path.resolve()
            assert (here / "site-packages" if checkout else None) == module.CHECKOUT
            assert module.ROOT.resolve() == (here / "site-packages" if checkout else here)

    def test_data_sets_and_where_they_are(self):
        assert files.FOLDERS == ("imagenet1k", "imagefolder", "digits")
        assert {name: str(files.default_dataset_path(name).relative_to(ROOT)) for name in files.DATASETS[:-1]} == {
            "imagenet1k": "dataset/imagenet2012/val",
            "imagefolder": "dataset/imagenet2012/val",
            "digits": "dataset/digits/val",
            "cifar10": "dataset/cifar",
            "cifar100": "dataset/cifar",
        }
        assert files.DATASETS == ("imagenet1k", "imagefolder", "digits", "cifar10", "cifar100", "images")
        assert files.default_dataset_path("images") == Path.cwd()

    @pytest.mark.parametrize(
        ("text", "found"),
        [('{"noise": 0.5}', {"noise": 0.5}), ("[1]", {}), ("{", {}), ("", {}), ("[" * 100_000, {}), ("\udcff", {})],
    )
    def test_a_note_of_how_something_was_made(self, text, found, tmp_path):
        assert (files.MADE, files.noted(tmp_path / "none")) == ("made.json", {})
        (tmp_path / "made.json").write_bytes(text.encode(errors="surrogateescape"))
        assert files.noted(tmp_path / "made.json") == found

    def test_the_digest_of_a_file_of_several_blocks(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc" * 2**20)
        assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 2**20).hexdigest()

    @pytest.mark.parametrize(("model_type", "folder"), [("auto", "fine.tuned"), ("ViT-B_16", "ViT-B_16")])
    def test_results_are_by_job_and_model(self, model_type, folder):
        options = Namespace(pretrain_weight=Path("ckpt/fine.tuned.npz"), model_type=model_type)
        assert files.model_name(options) == folder
        assert files.results_folder("edit/ja", options) == ROOT / "results/edit/ja" / folder

    def test_what_cannot_be_written_says_where_and_what_to_do(self):
        with pytest.raises(UserError) as caught, files.writing(Path("out")):
            raise PermissionError(errno.EACCES, "Permission denied")
        said = "out: cannot be written ([Errno 13] Permission denied)"
        assert str(caught.value) == f"{said}; choose another --output_dir"
        with pytest.raises(UserError) as caught, files.writing(Path("out"), "; do this"):
            raise PermissionError(errno.EACCES, "Permission denied")
        assert str(caught.value) == f"{said}; do this"

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("other")])
    def test_a_full_disk_and_other_errors_stay_what_they_are(self, error):
        with pytest.raises(type(error)) as caught, files.writing(Path("out")):
            raise error
        assert caught.value is error

    @pytest.mark.parametrize(
        ("content", "found"),
        [(b"\0\xff", b"\0\xff"), ("é\n", "é\n".encode()), ("\udcff", b"\\udcff"), ("", b""), (b"", b"")],
    )
    def test_a_file_is_replaced_by_text_or_bytes(self, content, found, tmp_path):
        (tmp_path / "a").write_text("older and longer")
        files.replace_file(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == found
        assert list(tmp_path.iterdir()) == [tmp_path / "a"]

    def test_it_is_on_the_disk_before_it_takes_the_old_ones_place(self, tmp_path, monkeypatch):
        seen = []

        def fsync(descriptor):
            seen.append({file.name: file.read_bytes() for file in tmp_path.iterdir()})

        monkeypatch.setattr(os, "fsync", fsync)
        (tmp_path / "a.json").write_text("old")
        files.replace_file(tmp_path / "a.json", "new")
        assert seen == [{"a.json": b"old", f"a.json.{os.getpid()}.tmp": b"new"}]
        assert (tmp_path / "a.json").read_text() == "new"

    def test_a_failure_leaves_the_old_file_alone(self, tmp_path, monkeypatch):
        def fsync(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        (tmp_path / "a").write_text("old")
        with pytest.raises(OSError, match="No space"):
            files.replace_file(tmp_path / "a", "new")
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a": "old"}


PUBLIC = {
    "": "Ablation BaselinePath Beam Conductance Exhaustive GradientActivation HeadError InfluencePath Layer "
    "LayerIG NeuronPath NonFiniteError Preprocessing Quadrature RandomUnits Setting Shortlist SiteEdit "
    "UnitPath UserError VisionTransformer activation_path adapt baseline_path edit enhance find_head_path "
    "find_path find_path_auto gain influence_path load load_images mean_activations remove resample "
    "retain score_head_path score_path shrink unit_maps",
    ".records": "Args BASELINES EDITED KEYS METHODS OPERATIONS PAPER Store TopImages UnitMaps args_file check_record "
    "keys_of label_file label_files read_label read_results read_top_images read_unit_maps",
    ".atlas": "Built Sources build_atlas open_sources",
    ".cli": "Parser Report Share command share",
    ".data": "Batch ImageSet NOISE batches class_names find_label load_images open_chosen open_dataset "
    "preprocessing write_images",
    ".models": "Block CONFIGS Config HeadError VisionTransformer accuracy adapt device load save set_precision "
    "sha256 shrink train",
    ".attribution": "Ablation BaselinePath Beam Conductance Exhaustive GradientActivation InfluencePath Layer LayerIG "
    "NeuronPath PatchGrid Quadrature RandomUnits Setting Shortlist SiteEdit UnitPath UnitSums "
    "activation_path baseline_path default_rows edit enhance find_head_path find_path find_path_auto gain "
    "influence_path magnitude mean_activations most_important patch_grid path_frequency random_importance "
    "remove resample retain score_head_path score_path unit_maps unit_sums written",
    ".runs": "Baseline Edit HeadAttribution InfluencePattern Inputs Job JointAttribution Plan Run TopImages "
    "TopKAttribution TopKEdit main open_inputs open_model",
    ".analysis": "Classes Curve Edited Estimate GROUPS Results check_confusion cosines estimate export_classes "
    "frequencies mantel markdown method_tables neighbours of_smaller_models of_training open_classes "
    "over_trainings overlap read_classes read_curves resolve shrink_tables soft_confusion spearman "
    "stability table validity write",
    ".figures": "accuracy_deviation class_scores plot_classes plot_curves plot_methods plot_paths plot_runs "
    "plot_shrink plot_similarity plot_study probability_deviation save save_pages score_distributions",
    ".studies": "CountFlops Images METHODS METHOD_NAMES PARTS Ranked Subject adapted_table block_flops compare "
    "compare_methods engine_flops flops_of_smaller heads_table influences_table library_versions markdown "
    "measure_smaller rank_units rules_table run searches_table shortlist_errors shortlist_tables "
    "sizes_table support_page times_of_smaller verdicts",
}


@pytest.mark.parametrize("wing", PUBLIC)
def test_public_names(wing):
    module = importlib.import_module(f"neuronpath{wing}")
    assert sorted(module.__all__) == PUBLIC[wing].split()
    for name in module.__all__:
        found = getattr(module, name)
        assert getattr(found, "__name__", name) == name


SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def handlers(self):
        """Whatever happens, this process's own are there again."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda *_: pytest.fail("nobody answers the signal"))
        yield {number: signal.getsignal(number) for number in before}
        for number, handler in before.items():
            signal.signal(number, handler)

    @SIGNALS
    def test_both_signals_are_a_keyboard_interrupt_inside_and_what_they_were_after(self, number, handlers):
        with pytest.raises(KeyboardInterrupt), interrupts.as_keyboard_interrupt():  # noqa: PT012
            signal.raise_signal(number)
            pytest.fail("it goes on")
        assert {n: signal.getsignal(n) for n in handlers} == handlers

    @SIGNALS
    def test_what_is_held_is_finished_first(self, number):
        done = []
        with interrupts.as_keyboard_interrupt():
            with pytest.raises(KeyboardInterrupt), interrupts.held():  # noqa: PT012
                with interrupts.held():
                    signal.raise_signal(number)
                    done.append("inner")
                done.append("outer")
            assert done == ["inner", "outer"]
            try:
                with interrupts.held():
                    done.append("held anew")
            except KeyboardInterrupt:
                pytest.fail("one signal is answered twice")
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)

    def test_an_error_inside_ends_the_hold(self):
        with interrupts.as_keyboard_interrupt():
            with pytest.raises(ValueError, match="x"), interrupts.held():
                raise ValueError("x")
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def test_processes_that_load_images_leave_ctrl_c_to_the_main_one(self):
        interrupts.forget_in_worker()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
