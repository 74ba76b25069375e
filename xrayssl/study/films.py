"""Films in the report: which are shown, and how they are embedded."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from xrayssl.data.radiograph import read, window
from xrayssl.errors import UserError
from xrayssl.study.markup import Markup, element
from xrayssl.study.runs import Predictions

SHORT_SIDE = 224
PICTURE_WIDTH, THUMB_WIDTH = 1400, 300


def choose(predictions: Predictions, each: int = 4, seed: int = 0) -> dict[str, list[int]]:
    """Choose films to show: the most confident right ones, the most confident wrong ones, and some at random.

    A film's margin is the probability given to the truth, in its worst class: near 1 confident and right,
    near 0 confident and wrong. A patient is shown once. Films with a finding go before films without.

    Args:
        predictions: Of one test.
        each: Films in each group.
        seed: Of the random group.

    Returns:
        Row numbers by group; a group may be shorter, or missing, where there are not enough films.
    """
    label, probability = predictions.matrix("label"), predictions.matrix("probability")
    truth = np.where(label == 1, probability, np.where(label == 0, 1 - probability, np.inf))
    if predictions.task == "multiclass":
        truth = np.where(label == 1, probability, np.inf)
    margin = truth.min(1, initial=np.inf)
    known = np.flatnonzero(np.isfinite(margin))
    correct = _correct(predictions.task, label, probability, margin)
    finding = (label == 1).any(1)
    sure = known[np.lexsort((-margin[known], ~finding[known]))]
    orders = {
        "Confident and right": sure[correct[sure]],
        "Confident and wrong": known[np.argsort(margin[known], kind="stable")],
        "Drawn at random": np.random.default_rng(seed).permutation(known),
    }
    orders["Confident and wrong"] = orders["Confident and wrong"][~correct[orders["Confident and wrong"]]]
    return _one_per_patient(orders, predictions.table["patient"].astype(str).tolist(), each)


def _correct(task: str, label: np.ndarray, probability: np.ndarray, margin: np.ndarray) -> np.ndarray:
    if task == "multiclass":
        return np.asarray((label == 1).argmax(1) == probability.argmax(1))
    return np.asarray(margin > 0.5)


def _one_per_patient(orders: dict[str, np.ndarray], patients: list[str], each: int) -> dict[str, list[int]]:
    seen: set[str] = set()
    groups: dict[str, list[int]] = {}
    for name, order in orders.items():
        for row in order.tolist():
            if len(groups.get(name, ())) < each and patients[row] not in seen:
                seen.add(patients[row])
                groups.setdefault(name, []).append(row)
    return groups


def card(predictions: Predictions, row: int, shown: int = 3) -> Markup:
    """One film with its true label and the probabilities of the true and of the likeliest other classes."""
    label, probability = predictions.matrix("label")[row], predictions.matrix("probability")[row]
    order = np.argsort(-probability, kind="stable").tolist()
    present = [k for k in reversed(order) if label[k] == 1][:shown]
    others = [k for k in order if label[k] != 1][: max(1, shown - len(present))]
    first = sorted(present + others, key=order.index)
    true = [predictions.classes[k] for k in np.flatnonzero(label == 1)]
    bars = [_bar(predictions.classes[k], float(probability[k]), label[k] == 1) for k in first]
    words = ", ".join(true) or "none of the findings"
    entry = predictions.table.iloc[row]
    return element(
        "figure",
        film(Path(str(entry["film"])), f"Film {entry['index']}, true label: {words}"),
        element("figcaption", element("p", element("span", "True:"), " ", words, class_="true"), bars),
        class_="film",
    )


def _bar(name: str, probability: float, true: bool) -> Markup:
    level = element("i", style=f"width:{100 * min(max(probability, 0.0), 1.0):.1f}%")
    words = element("span", name, class_="name"), element("span", f"{probability:.2f}", class_="value")
    return element("div", words, element("div", level, class_="level"), class_="bar is-true" if true else "bar")


def film(path: Path, words: str) -> Markup:
    """A film as a small JPEG; a note in its place if the file is gone or cannot be read."""
    try:
        image = Image.fromarray(window(read(path)))
    except UserError:
        return element("div", "film not at hand", class_="gone")
    scale = SHORT_SIDE / min(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return embedded(image.resize(size, Image.Resampling.LANCZOS), words)


def picture(path: Path, width: int, words: str) -> Markup:
    """A figure of the run, no wider than `width` pixels.

    Raises:
        UserError: If it is no picture.
    """
    try:
        with Image.open(path) as image:
            flat = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); remove it from the run.") from None
    if flat.width > width:
        flat = flat.resize((width, max(1, round(flat.height * width / flat.width))), Image.Resampling.LANCZOS)
    return embedded(flat, words)


def embedded(image: Image.Image, words: str, quality: int = 80) -> Markup:
    """An image inside the page."""
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=quality, optimize=True)
    content = base64.b64encode(memory.getvalue()).decode("ascii")
    return element("img", src=f"data:image/jpeg;base64,{content}", alt=words, width=image.width, height=image.height)
