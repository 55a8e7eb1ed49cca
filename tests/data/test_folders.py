"""Folders as people have them: ImageNet in one folder, some of its classes, other names, archives, a level too high."""

from pathlib import Path

import pytest
from helpers import fault
from PIL import Image
from timm.data import ImageNetInfo

from neuronpath.data.images import open_dataset
from neuronpath.data.labels import digest
from neuronpath.data.names import class_names, find_label
from neuronpath.files import Item

SYNSETS = ImageNetInfo("imagenet-1k").label_names()
TENCH, DOG, LAST = SYNSETS[0], SYNSETS[232], SYNSETS[999]


@pytest.fixture
def folder(tmp_path):
    """Images of these names below a folder; the folder."""

    def make(*names: str) -> Path:
        for name in names:
            file = tmp_path / "val" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2)).save(file, "JPEG")
        return tmp_path / "val"

    return make


def imagenet(root: Path, count: int = 1000, **more):
    return open_dataset("imagenet1k", root, count, **more)


class TestSynsets:
    def test_some_classes_have_the_labels_of_all(self, folder):
        root = folder(f"{LAST}/a.JPEG", f"{TENCH}/b.JPEG", f"{DOG}/deep/c.JPEG", f"{DOG}/a.JPEG")
        found = imagenet(root)
        assert found.items == [
            Item(f"{TENCH}/b.JPEG", 0),
            Item(f"{DOG}/a.JPEG", 232),
            Item(f"{DOG}/deep/c.JPEG", 232),
            Item(f"{LAST}/a.JPEG", 999),
        ]
        assert (found.classes, found.table) == (SYNSETS, "")
        assert [item.label for item in found.select([232, 5], 1)] == [232]
        # As an image folder the same has labels by places.
        assert {item.label for item in open_dataset("imagefolder", root, 3).items} == {0, 1, 2}

    @pytest.mark.parametrize("name", ["dog", "n99999999", "n014407641", "N01440764", "n0144076٤"])
    def test_other_names_are_refused(self, folder, name):
        root = folder(f"{TENCH}/a.JPEG", f"{name}/a.JPEG")
        assert fault(imagenet, root) == (
            f"{root}: its class folder: {name!r} is no synset of ImageNet-1k (n01440764 to n15075141); mend its name, "
            "say its label with --class_map, or use --dataset imagefolder"
        )

    def test_a_head_of_other_classes(self, folder):
        root = folder(f"{TENCH}/a.JPEG")
        assert fault(imagenet, root, 100) == (
            f"{root}: the labels of --dataset imagenet1k are 0 to 999, but the model's head has 100 classes; use "
            "--dataset imagefolder for other heads"
        )


class TestFlat:
    def test_synsets_at_the_end_of_the_names(self, folder):
        names = [
            f"ILSVRC2012_val_00000002_{TENCH}.JPEG",
            f"n01440764_1_{DOG}.jpg",
            f"ILSVRC2012_val_00000001_{LAST}.JPEG",
        ]
        root = folder(*names, ".cache/x.jpg")
        found = imagenet(root)
        assert found.items == [Item(names[0], 0), Item(names[1], 232), Item(names[2], 999)]
        assert (found.classes, found.table) == (SYNSETS, "")

    def test_a_truth_file(self, folder, tmp_path):
        root = folder(*(f"ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2, 3)))
        (tmp_path / "truth.csv").write_text(
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 1 2 3 4\n"
            f"ILSVRC2012_val_00000001,{DOG} 1 2 3 4\nILSVRC2012_val_00000009,{LAST} \nILSVRC2012_val_00000003,{TENCH}\n"
        )
        found = imagenet(root, truth=tmp_path / "truth.csv")
        assert [(item.image[-6], item.label) for item in found.items] == [("2", 0), ("3", 0), ("1", 232)]
        table = {"1": 232, "2": 0, "3": 0, "9": 999}
        assert found.table == digest({f"ILSVRC2012_val_0000000{i}": label for i, label in table.items()})
        folder("ILSVRC2012_val_00000004.JPEG")
        assert fault(imagenet, root, truth=tmp_path / "truth.csv") == (
            f"{tmp_path}/truth.csv: says nothing of ILSVRC2012_val_00000004.JPEG in {root}; "
            "give the truth of these images"
        )

    def test_a_truth_file_for_class_folders(self, folder, tmp_path):
        (tmp_path / "truth.csv").write_text("ImageId,PredictionString\n")
        root = folder(f"{TENCH}/a.JPEG")
        said = f"{root}: no images in it; --truth is for a folder of images without class folders"
        assert fault(imagenet, root, truth=tmp_path / "truth.csv") == said

    def test_nothing_is_guessed(self, folder):
        root = folder(f"a_{TENCH}.JPEG", "ILSVRC2012_val_00000001.JPEG")
        assert fault(imagenet, root) == (
            f"{root}/ILSVRC2012_val_00000001.JPEG: in no class folder, and its name ends in no synset; "
            "give --truth FILE: Kaggle's LOC_val_solution.csv, or the devkit's list of ids with meta.mat or "
            "map_clsloc.txt beside it"
        )
        (root / "ILSVRC2012_val_00000001.JPEG").rename(root / "a_n99999999.JPEG")
        assert fault(imagenet, root).startswith(f"{root}/a_n99999999.JPEG: 'n99999999' is no synset of ImageNet-1k")

    def test_files_beside_the_folders_of_synsets_are_left_out(self, folder):
        root = folder("x.jpg", f"{TENCH}/a.JPEG")
        assert imagenet(root).items == [Item(f"{TENCH}/a.JPEG", 0)]


class TestClassMap:
    @pytest.fixture
    def mapped(self, tmp_path):
        file = tmp_path / "map.csv"
        file.write_text("tench,0\nborder collie,232\nsheepdog,232\nnot there,5\n")
        return file

    def test_imagenet_under_other_names(self, folder, mapped):
        root = folder("border collie/a.jpg", "sheepdog/a.jpg", "tench/b.jpg")
        found = imagenet(root, class_map=mapped)
        assert found.items == [Item("tench/b.jpg", 0), Item("border collie/a.jpg", 232), Item("sheepdog/a.jpg", 232)]
        assert found.classes == SYNSETS
        assert found.table == digest({"tench": 0, "border collie": 232, "sheepdog": 232, "not there": 5})

    def test_names_of_an_image_folder(self, folder, mapped):
        root = folder("border collie/a.jpg", "sheepdog/a.jpg", "tench/b.jpg")
        found = open_dataset("imagefolder", root, 300, class_map=mapped)
        assert [item.label for item in found.items] == [0, 232, 232]
        assert len(found.classes) == 300
        assert [found.classes[i] for i in (0, 1, 232, 299)] == ["tench", "1", "border collie, sheepdog", "299"]
        assert class_names("imagefolder", root, mapped) == found.classes[:233]

    def test_faults(self, folder, mapped):
        root = folder("tench/b.jpg", "sheepdog/a.jpg")
        said = "'sheepdog' has label 232, but the model's classes are 0 to 231; mend it"
        assert fault(open_dataset, "imagefolder", root, 232, class_map=mapped) == f"{mapped}: {said}"
        folder("cat/a.jpg")
        said = f"{mapped}: says no label of the class folder 'cat' in {root}; add it"
        assert fault(imagenet, root, class_map=mapped) == said

    def test_numbered_folders_are_no_warning(self, folder, mapped, recwarn):
        mapped.write_text("10,10\n2,2\n1,1")
        found = open_dataset("imagefolder", folder("10/a.jpg", "2/a.jpg", "1/a.jpg"), 11, class_map=mapped)
        assert [item.label for item in found.items] == [1, 2, 10]
        assert not recwarn


class TestWrongFolders:
    @pytest.mark.parametrize("part", ["val", "validation", "test"])
    @pytest.mark.parametrize("name", ["imagenet1k", "imagefolder"])
    def test_a_level_too_high(self, folder, name, part):
        root = folder(f"train/{TENCH}/a.jpg", f"{part}/{TENCH}/a.jpg")
        said = f"{root}: has train/ and {part}/; did you mean --dataset_path {root}/{part}?"
        assert fault(open_dataset, name, root, 1000) == said

    def test_classes_of_these_names_that_are_meant(self, folder, tmp_path):
        (tmp_path / "map.csv").write_text("train,1\nval,0")
        found = open_dataset("imagefolder", folder("train/a.jpg", "val/b.jpg"), 2, class_map=tmp_path / "map.csv")
        assert found.items == [Item("val/b.jpg", 0), Item("train/a.jpg", 1)]

    @pytest.mark.parametrize(
        ("name", "how"),
        [
            ("ILSVRC2012_img_val.tar", "tar -xf ILSVRC2012_img_val.tar -C DIR"),
            ("a.tar.gz", "tar -xf a.tar.gz -C DIR"),
            ("a.zip", "unzip a.zip -d DIR"),
        ],
    )
    @pytest.mark.parametrize("below", [".", "data"])
    @pytest.mark.parametrize("kind", ["imagenet1k", "imagefolder"])
    def test_archives(self, tmp_path, name, how, below, kind):
        (tmp_path / below).mkdir(exist_ok=True)
        (tmp_path / below / name).touch()
        said = "an archive, and no images; unpack it"
        found = fault(open_dataset, kind, tmp_path, 1000)
        assert found == f"{tmp_path / below / name}: {said} (mkdir DIR && {how}) and give --dataset_path DIR"

    @pytest.mark.parametrize("below", [".", "data"])
    def test_tables(self, tmp_path, below):
        file = tmp_path / below / "validation-00000-of-00014.parquet"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        assert fault(imagenet, tmp_path).startswith(
            f"{file}: a table, and no image files; write each row's image['bytes']"
        )

    def test_archives_beside_images_do_no_harm(self, folder):
        root = folder(f"{TENCH}/a.JPEG")
        (root / "x.tar").touch()
        assert len(imagenet(root).items) == 1


class TestImagesAlone:
    def test_names_are_below_the_root_or_whole(self, folder, tmp_path, monkeypatch):
        root = folder("a.jpg", "b/c.jpg", "../d.jpg")
        monkeypatch.chdir(root / "b")
        found = open_dataset("images", root, 3, images=["../a.jpg", "c.jpg", "../../d.jpg"])
        assert found.items == [Item("a.jpg", -1), Item("b/c.jpg", -1), Item(f"{tmp_path}/d.jpg", -1)]
        assert (found.root, found.classes) == (root, ["0", "1", "2"])
        assert [found.rgb(item).size for item in found.items] == [(2, 2)] * 3

    def test_labels_come_later(self, folder):
        root = folder("a.jpg", "b.jpg", "c.jpg")
        found = open_dataset("images", root, 3, images=[root / "a.jpg", root / "b.jpg", root / "c.jpg"])
        known = found.labelled({"c.jpg": 0, "a.jpg": 2})
        assert known.items == [Item("c.jpg", 0), Item("a.jpg", 2)]
        assert known.select([2]) == [Item("a.jpg", 2)]

    def test_faults(self, folder):
        root = folder("a.jpg", "b/c.jpg")
        opened = [(["a.jpg", "b/../a.jpg"], "--images: a.jpg is named twice; name it once")]
        opened += [(["b"], f"--images: {root}/b: a folder; name the images in it")]
        opened += [(["x.jpg"], f"--images: {root}/x.jpg: no such image")]
        for names, said in opened:
            assert fault(open_dataset, "images", root, 3, images=[root / name for name in names]) == said
        said = "--dataset images: name the files, as in --images a.jpg b.jpg"
        assert fault(open_dataset, "images", root, 3) == said

    def test_classes_have_no_names(self, tmp_path):
        assert class_names("images", tmp_path) == []
        assert fault(find_label, "dog", []) == "'dog': the classes of this data set have no names; give labels"
