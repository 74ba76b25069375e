import cv2
import numpy as np
import pytest

from xrayssl.data.check import duplicates
from xrayssl.data.check.duplicates import look_alikes, thumbnail
from xrayssl.data.corpora.phantom import manifest
from xrayssl.data.radiograph import read

FILMS = 40


@pytest.fixture(scope="module")
def films():
    """Chest phantoms, each of another patient."""
    table = manifest(None, body="chest", films=FILMS, size=128, seed=3).table.drop_duplicates("patient")
    return [read(path).pixels for path in table["path"]]


def padded(film):
    return cv2.copyMakeBorder(film, 9, 17, 30, 22, cv2.BORDER_CONSTANT, value=0)


def encoded(film):
    return cv2.imdecode(cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)


def brighter(film):
    return (255 * (film / 255.0) ** 0.7).astype(np.uint8)


def cropped(film):
    height, width = film.shape
    return film[int(0.06 * height) :, int(0.03 * width) : int(0.97 * width)]


COPIES = {
    "squashed": (lambda film: cv2.resize(film, (100, 100), interpolation=cv2.INTER_AREA), ""),
    "encoded": (encoded, ""),
    "brighter": (brighter, ""),
    "windowed": (lambda film: np.clip((film.astype(float) - 40) * 1.4, 0, 255).astype(np.uint8), ""),
    "cropped": (cropped, ""),
    "padded": (padded, ""),
    "mirrored": (lambda film: film[:, ::-1], "mirrored"),
    "inverted": (lambda film: 255 - film, "inverted"),
    "all at once": (lambda film: encoded(brighter(cropped(film))), ""),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_strangers(name, films):
    make, how = COPIES[name]
    thumbnails = np.stack([thumbnail(film) for film in [*films, make(films[5])]])
    pairs = [pair for pair in look_alikes(thumbnails) if len(films) in pair[:2]]
    assert [(pair.first, pair.second, pair.how) for pair in pairs] == [(5, len(films), how)]
    assert 0.75 <= pairs[0].similarity <= 1


def test_films_of_different_patients_are_no_copies(films):
    assert look_alikes(np.stack([thumbnail(film) for film in films])) == []


def test_cells_find_what_all_pairs_find(films, monkeypatch):
    every = np.stack([thumbnail(film) for film in [*films, *map(encoded, films)]])
    whole = {pair[:2] for pair in look_alikes(every)}
    monkeypatch.setattr(duplicates, "CELL", 8)
    monkeypatch.setattr(duplicates, "NEAREST", 4)
    assert {pair[:2] for pair in look_alikes(every)} == whole == {(i, i + len(films)) for i in range(len(films))}


@pytest.mark.parametrize("count", [0, 1])
def test_few_films_have_no_copies(count):
    assert look_alikes(np.zeros((count, 64, 64), np.uint8)) == []


def test_empty_films_harm_nothing(films):
    blank = np.zeros((3, 64, 64), np.uint8)
    assert look_alikes(np.concatenate([blank, np.stack([thumbnail(film) for film in films[:4]])])) == []
