import cv2
import numpy as np
import pytest
from classifiers import films

from xrayssl.cli import main
from xrayssl.data import ChestXrayDataModule, ShoulderXrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.data.corpora import phantom
from xrayssl.errors import UserError
from xrayssl.explained.regions import Regions

PHANTOM = {"phantom": {"films": 24, "size": 48, "seed": 2}}


def module(kind=ChestXrayDataModule, body="chest", **options):
    corpora = {"phantom": {**PHANTOM["phantom"], "body": body}}
    return kind(corpora, img_size=32, batch_size=4, num_workers=0, **options)


def boxed(data):
    """A row and class with a box."""
    boxes, table = data.manifest.boxes, data.manifest.table
    return int(np.flatnonzero(table["path"] == boxes["path"].iat[0])[0]), boxes["label"].iat[0]


@pytest.mark.parametrize("trim", [False, True])
def test_a_box_lies_on_the_grid_where_the_same_pixels_are_in_the_view(trim):
    data = module(augment=Augment(trim=trim))
    row, name = boxed(data)
    own = data.manifest.boxes[lambda boxes: boxes["path"] == data.manifest.table["path"].iat[row]]
    plain = module()
    film = plain.central(np.array([row])).dataset.film(row)
    painted = np.zeros_like(film)
    for _, box in own[own["label"] == name].iterrows():
        left, top = round(box["left"] * film.shape[1]), round(box["top"] * film.shape[0])
        painted[top : top + round(box["height"] * film.shape[0]), left : left + round(box["width"] * film.shape[1])] = (
            255
        )
    if trim:
        from xrayssl.data.trim import border

        top, left, height, width = border(film)
        painted = painted[top : top + height, left : left + width]
    view = data.central(np.array([row])).dataset.views[0](painted, seed=0)
    expected = cv2.resize(view.astype(np.float32) / 255, (4, 4), interpolation=cv2.INTER_AREA)
    assert np.abs(Regions(data, None, (4, 4)).box(row, name) - expected).max() < 0.12 and expected.max() > 0.1


def test_a_film_without_a_box_has_no_region():
    data = module()
    row, _ = boxed(data)
    assert np.isnan(Regions(data, None, (4, 4)).box(row, "no such finding")).all()


def test_phantoms_have_the_masks_of_their_anatomy():
    data = module(ShoulderXrayDataModule, "shoulder")
    joint = Regions(data, None, (4, 4)).masks(0)["joint"]
    path = data.manifest.table["path"].iat[0]
    assert joint.sum() / 16 == pytest.approx(phantom.outlines(path)["joint"].mean(), abs=0.15) and joint.max() > 0.5


def test_masks_of_a_folder_are_found_by_the_films_names(tmp_path):
    data = module()
    stem = data.manifest.table["path"].iat[3].rpartition("/")[2]
    mask = np.zeros((96, 96), np.uint8)
    mask[:48] = 255
    (tmp_path / "upper").mkdir()
    cv2.imwrite(str(tmp_path / "upper" / stem), mask)
    found = Regions(data, tmp_path, (4, 4))
    assert found.masks(4) == {} and [*found.masks(3)] == ["upper"]
    assert found.masks(3)["upper"][0].mean() > 0.9 and found.masks(3)["upper"][-1].mean() < 0.1


def test_masks_that_are_not_there_are_told(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        Regions(module(), tmp_path / "none", (4, 4))


def test_a_mask_of_0_and_1_is_one(tmp_path):
    data = module()
    stem = data.manifest.table["path"].iat[3].rpartition("/")[2]
    cv2.imwrite(str(tmp_path / stem), np.ones((48, 48), np.uint8))
    assert Regions(data, tmp_path, (4, 4)).masks(3)["mask"].min() == 1


def test_masks_are_refused_where_films_share_names_or_lie_in_a_store_that_cut_them(tmp_path):
    for folder in ("a", "b"):
        films(tmp_path / "films" / folder)
    data = ChestXrayDataModule({"folder": str(tmp_path / "films")}, img_size=32, num_workers=0)
    with pytest.raises(UserError, match="films share names"):
        Regions(data, tmp_path, (4, 4))
    assert (
        main(
            ["prepare", "--data.corpora.folder", str(tmp_path / "films" / "a"), "--out", str(tmp_path / "s"), "--trim"]
        )
        == 0
    )
    stored = ChestXrayDataModule({"folder": str(tmp_path / "s" / "folder")}, img_size=32, num_workers=0)
    with pytest.raises(UserError, match="cut their borders off"):
        Regions(stored, tmp_path, (4, 4))
