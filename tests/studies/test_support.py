"""The page of models of other libraries: what is asked of each, and how verdicts are told."""

import pytest
from foreign import timm_vit
from helpers import fault

from neuronpath.studies import support
from neuronpath.studies.support import Verdict, support_page, verdicts


def test_real_entry_points_of_both_libraries():
    (tiny,) = verdicts("vit_tiny_patch16_dinov3_qkvb")
    assert tiny == Verdict("timm, eva", "vit_tiny_patch16_dinov3_qkvb", 768, 21, 16)
    (beit,) = verdicts("BeitForImageClassification")
    assert (beit.family, beit.neurons, beit.tokens - beit.neuron_tokens) == ("transformers", 3072, 1)
    (relative,) = verdicts("vit_relpos_base_patch16_rpn_224")
    assert relative.why == "block 0: no norm of its own feeds its FFN (pre-norm blocks have one)"


def test_every_entry_point_is_asked():
    timm = [name for _, name, _ in support.timm_candidates()]
    assert len(timm) == len(set(timm)) > 300
    classes = [name for _, name, _ in support.transformers_candidates()]
    assert {"ViTForImageClassification", "DeiTForImageClassificationWithTeacher", "ResNetForImageClassification"} <= {
        *classes
    }


def test_what_cannot_be_built_says_so(monkeypatch):
    def fails():
        raise RuntimeError("too\nmany words")

    candidates = [("a", "x", fails), ("a", "y", lambda: (timm_vit(), 8))]
    monkeypatch.setattr(support, "timm_candidates", lambda: candidates)
    monkeypatch.setattr(support, "transformers_candidates", lambda: [])
    assert verdicts() == [Verdict("a", "x", why="not built: too many words"), Verdict("a", "y", 9, 5, 1)]


def test_a_library_that_is_not_installed(monkeypatch):
    def absent():
        raise ImportError("No module named 'timm'")
        yield

    monkeypatch.setattr(support, "timm_candidates", absent)
    assert fault(verdicts) == "No module named 'timm'; pip install timm transformers"


@pytest.mark.parametrize(
    ("tokens", "neuron_tokens", "words"), [(5, 1, "1"), (6, 2, "2"), (4, 4, "all"), (9, 4, "all but 5")]
)
def test_the_page(tokens, neuron_tokens, words):
    found = [
        Verdict("timm, b", "z", 9, tokens, neuron_tokens),
        Verdict("timm, b", "y", why="for a reason"),
        Verdict("timm, a", "x", why="for a reason"),
        Verdict("timm, b", "w", why="for a reason"),
        Verdict("other", "v", 8, 5, 1),
    ]
    assert support_page(found) == (
        "| | models | adapted | |\n|---|---|---|---|\n"
        "| timm, all of these files | 4 | 1 | 25 % |\n"
        "| timm, b | 3 | 1 | 33 % |\n| timm, a | 1 | 0 | 0 % |\n| other | 1 | 1 | 100 % |\n\n"
        "## Refused\n\n| | models | why |\n|---|---|---|\n"
        "| timm, a | `x` | for a reason |\n| timm, b | `w`, `y` | for a reason |\n\n"
        "## Adapted\n\n| | model | neurons per layer | neuron tokens |\n|---|---|---|---|\n"
        f"| other | `v` | 8 | 1 |\n| timm, b | `z` | 9 | {words} |\n"
    )
