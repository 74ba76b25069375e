import time
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from xrayssl.data.corpora import phantom as corpus
from xrayssl.data.phantom import Film, classes, physics, render
from xrayssl.data.phantom.shapes import Frame, ellipsoid, tube
from xrayssl.errors import UserError

TASKS = [("chest", "findings"), ("shoulder", "findings"), ("shoulder", "implant")]


@cache
def films(body: str, task: str, count: int = 14, size: int = 48) -> list[Film]:
    return [render(body, 0, index, size, task=task) for index in range(count)]


@pytest.mark.parametrize(("body", "task"), TASKS)
def test_the_same_seed_and_index_give_the_same_bytes(body: str, task: str) -> None:
    first, again = render(body, 3, 5, 48, task=task), render(body, 3, 5, 48, task=task)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.boxes == again.boxes


@pytest.mark.parametrize(("body", "task"), TASKS)
def test_every_film_and_every_seed_differs(body: str, task: str) -> None:
    seen = {film.pixels.tobytes() for film in films(body, task)}
    assert len(seen | {render(body, 1, 0, 48, task=task).pixels.tobytes()}) == 15


@pytest.mark.parametrize(("body", "task"), TASKS)
def test_a_label_is_1_exactly_when_its_outline_is_on_the_film(body: str, task: str) -> None:
    for film in films(body, task):
        assert list(film.labels) == list(classes(body, task))
        assert {name for name, value in film.labels.items() if value} == set(film.masks) & set(film.labels)
        assert all(mask.any() and mask.shape == film.pixels.shape for mask in film.masks.values())


@pytest.mark.parametrize(("body", "task"), TASKS)
def test_a_box_is_the_bounding_box_of_the_outline(body: str, task: str) -> None:
    for film in films(body, task):
        for name, (x, y, width, height) in film.boxes.items():
            rows, columns = np.nonzero(film.masks[name])
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


def pairs(body: str, task: str, finding: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Films that show a finding: how it changed the grey values, and its outline."""
    for index in range(30):
        film = render(body, 0, index, size, task=task)
        if film.labels[finding]:
            plain = render(body, 0, index, size, task=task, without=[finding])
            yield film.pixels.astype(float) - plain.pixels, film.masks[finding]


@pytest.mark.parametrize(
    ("body", "task", "finding"),
    [
        ("chest", "findings", "Nodule"),
        ("chest", "findings", "Effusion"),
        ("chest", "findings", "Consolidation"),
        ("chest", "findings", "Cardiomegaly"),
        ("shoulder", "findings", "Calcification"),
        ("shoulder", "implant", "Stemmed"),
        ("shoulder", "implant", "Reverse"),
    ],
)
def test_added_matter_brightens_the_film_where_it_lies(body: str, task: str, finding: str) -> None:
    for change, inside in islice(pairs(body, task, finding, 64), 3):
        assert change[inside].mean() > 3 + np.median(change[~inside])


def test_a_fracture_line_is_darker_than_the_bone_was() -> None:
    for change, inside in islice(pairs("shoulder", "findings", "Fracture", 128), 3):
        assert np.percentile(change[inside], 10) < -5


def test_leaving_out_a_finding_leaves_the_others_as_they_were() -> None:
    index, film = next(pair for pair in enumerate(films("chest", "findings")) if sum(pair[1].labels.values()) > 1)
    kept, gone = list(film.boxes)[:2]
    plain = render("chest", 0, index, 48, without=[gone])
    assert set(plain.boxes) == set(film.boxes) - {gone}
    assert plain.boxes[kept] == film.boxes[kept]


def test_the_heart_is_enlarged_exactly_when_it_takes_more_than_half_the_chest() -> None:
    for film in films("chest", "findings", 12, 128):
        ratio = film.boxes.get("Cardiomegaly", cv2.boundingRect(film.masks["heart"].astype(np.uint8)))[2]
        lungs = cv2.boundingRect(film.masks["lungs"].astype(np.uint8))[2]
        assert (ratio / lungs > 0.5) == bool(film.labels["Cardiomegaly"])


def test_films_of_a_patient_share_the_patient_and_differ_in_pose() -> None:
    patients = [render("chest", 0, index, 32).patient for index in range(12)]
    counts = sorted(patients.count(name) for name in set(patients))
    assert counts == [1, 1, 2, 2, 3, 3]


def test_bone_is_bright_and_air_is_dark() -> None:
    film = render("shoulder", 0, 11, 64)
    metal = film.masks[next(iter(film.boxes))]
    assert film.pixels[metal].mean() > 200
    assert np.percentile(film.pixels, 5) < 40


def test_the_shorter_side_has_the_size_asked_for() -> None:
    shapes = {render("chest", 0, index, 40).pixels.shape for index in range(12)}
    assert {min(shape) for shape in shapes} == {40}
    assert len(shapes) > 1


def test_a_chord_through_a_ball_and_a_tube_is_its_thickness() -> None:
    frame = Frame.look((41, 41), 0.1, (0.0, 0.0), 0.3, mirror=True)
    assert ellipsoid(frame, (0.0, 0.0), (1.5, 1.5, 1.5))[20, 20] == pytest.approx(3.0)
    assert tube(frame, [(-9.0, 0.0), (9.0, 0.0)], 0.8)[20, 20] == pytest.approx(1.6)


def test_four_centimetres_of_water_like_tissue_attenuate_as_beer_and_lambert_say() -> None:
    body = np.full((4, 4), 4.0, np.float32)
    assert physics.line_integral(body, {}, 60.0)[0, 0] == pytest.approx(4 * 1.06 * 0.2048, rel=1e-5)


def test_bone_in_place_of_tissue_attenuates_more_and_lung_less() -> None:
    body, part = np.full((2, 2), 9.0, np.float32), np.ones((2, 2), np.float32)
    plain = physics.line_integral(body, {}, 60.0)[0, 0]
    bone, lung = (physics.line_integral(body, {name: part}, 60.0)[0, 0] for name in ("bone", "lung"))
    assert lung < plain < bone


def test_the_manifest_lists_every_film_once_with_its_labels(tmp_path: Path) -> None:
    manifest = corpus.manifest(tmp_path, body="shoulder", films=24, size=32)
    assert (len(manifest), manifest.task, manifest.classes) == (24, "multiclass", list(classes("shoulder")))
    assert all(Path(path).is_file() for path in manifest.table["path"])
    assert set(manifest.table["split"]) == {"train", "val", "test"}


def test_the_manifests_boxes_are_fractions_of_the_films(tmp_path: Path) -> None:
    manifest = corpus.manifest(tmp_path, films=8, size=32)
    films = [render("chest", 0, index, 32) for index in range(8)]
    expected = [
        (index, name, x / width, y / height, w / width, h / height)
        for index, film in enumerate(films)
        for height, width in [film.pixels.shape]
        for name, (x, y, w, h) in film.boxes.items()
    ]
    assert manifest.boxes is not None
    found = manifest.boxes.assign(path=manifest.boxes["path"].map(list(manifest.table["path"]).index))
    assert [tuple(row[:2]) for row in found.to_numpy()] == [row[:2] for row in expected]
    np.testing.assert_allclose(found.to_numpy()[:, 2:].astype(float), [row[2:] for row in expected])


def test_no_patient_stands_in_two_splits(tmp_path: Path) -> None:
    table = corpus.manifest(tmp_path, films=30, size=16).table
    assert (table.groupby("patient")["split"].nunique() == 1).all()


def test_a_second_call_renders_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = corpus.manifest(tmp_path, films=4, size=16)
    monkeypatch.setattr(corpus, "render", None)
    assert corpus.manifest(tmp_path, films=4, size=16).checksum() == first.checksum()


def test_a_killed_write_leaves_no_folder_taken_for_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(body: str, seed: int, index: int, size: int, *, task: str) -> Film:
        if index == 3:
            raise KeyboardInterrupt
        return render(body, seed, index, size, task=task)

    monkeypatch.setattr(corpus, "render", killed)
    with pytest.raises(KeyboardInterrupt):
        corpus.manifest(tmp_path, films=6, size=16)
    monkeypatch.undo()
    assert not list(tmp_path.glob("chest*"))
    assert len(corpus.manifest(tmp_path, films=6, size=16)) == 6


def test_the_faster_of_two_writers_wins_and_the_other_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(*args: object, **options: object) -> Film:
        monkeypatch.setattr(corpus, "render", render)
        corpus.manifest(tmp_path, films=3, size=16)
        return render("chest", 0, 0, 16)

    monkeypatch.setattr(corpus, "render", overtaken)
    assert len(corpus.manifest(tmp_path, films=3, size=16)) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_root_the_films_go_to_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = corpus.manifest(None, films=1, size=16).table["path"][0]
    assert Path(path).is_relative_to(tmp_path / "xrayssl" / "phantom")


@pytest.mark.parametrize("options", [{"body": "knee"}, {"task": "implant"}, {"films": 0}, {"size": 8}])
def test_an_option_that_makes_no_sense_is_the_users_mistake(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="phantom"):
        corpus.manifest(tmp_path, **options)


def test_a_film_takes_a_fraction_of_a_second() -> None:
    start = time.process_time()
    films("chest", "findings", 5, 256)
    assert (time.process_time() - start) / 5 < 0.25
