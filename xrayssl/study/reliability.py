"""Whether probabilities mean what they say: reliability diagrams before and after the temperature."""

from collections.abc import Mapping, Sequence
from typing import Any

from xrayssl.study.markup import Markup, element, join
from xrayssl.study.words import decimal, interval

SIDE, LEFT, BOTTOM, TOP = 250, 40, 34, 8
STAGES = {"before": "As predicted", "after": "Divided by the temperature"}
ERRORS = {
    "ece": "Calibration error as predicted",
    "ece_scaled": "after division by the temperature",
    "brier": "Brier score",
}


def reliability(content: Mapping[str, Any]) -> Markup | None:
    """A diagram before and one after scaling, over all classes; None where calibration was not measured.

    Args:
        content: Of metrics.json.
    """
    calibration, known = content.get("calibration") or {}, [name for name in ERRORS if name in content["metrics"]]
    drawn = [
        element("figure", element("figcaption", title), diagram(pooled(calibration[stage]), title))
        for stage, title in STAGES.items()
        if calibration.get(stage)
    ]
    if not drawn and not known:
        return None
    return join(
        [
            element("h4", "Do the probabilities mean what they say?"),
            element("div", drawn, class_="panels") if drawn else None,
            element("p", "; ".join(_said(name, content["metrics"][name]) for name in known), ".") if known else None,
            element("p", _words(content), class_="note") if drawn else None,
        ]
    )


def _said(name: str, entry: Mapping[str, float | None]) -> str:
    span = interval(entry)
    return f"{ERRORS[name]} {decimal(entry['value'])}{f' ({span})' if span else ''}"


def pooled(stage: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, float]]:
    """Bins over all classes: how many films, their mean probability, and how often it came true.

    Args:
        stage: By class, or under "confidence" alone, a list of bins with low, high, films, confidence and frequency.
    """
    found: dict[tuple[float, float], dict[str, float]] = {}
    for bins in stage.values():
        for each in bins:
            if each["films"]:
                place = (float(each["low"]), float(each["high"]))
                total = found.setdefault(place, {"films": 0.0, "confidence": 0.0, "frequency": 0.0})
                total["films"] += each["films"]
                for name in ("confidence", "frequency"):
                    total[name] += each["films"] * each[name]
    return [
        {"films": bin["films"], **{name: bin[name] / bin["films"] for name in ("confidence", "frequency")}}
        for _, bin in sorted(found.items())
    ]


def diagram(bins: Sequence[Mapping[str, float]], title: str) -> Markup:
    """Frequency over probability; the size of a dot is how many films it stands for."""
    most = max((each["films"] for each in bins), default=1.0)
    line = " ".join(f"{_x(each['confidence']):.1f},{_y(each['frequency']):.1f}" for each in bins)
    dots = [
        element("circle", cx=_x(each["confidence"]), cy=_y(each["frequency"]), r=2 + 5 * (each["films"] / most) ** 0.5)
        for each in bins
    ]
    spoken = "; ".join(f"{each['confidence']:.2f} came true in {each['frequency']:.2f}" for each in bins)
    return element(
        "svg",
        element("title", f"{title}: {spoken}"),
        element("line", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1), class_="chance"),
        _axes(),
        element("polyline", points=line, class_="val"),
        element("g", dots, class_="dots"),
        class_="reliability",
        viewBox=f"0 0 {SIDE} {SIDE}",
        role="img",
    )


def _x(share: float) -> float:
    return LEFT + (SIDE - LEFT - TOP) * share


def _y(share: float) -> float:
    return SIDE - BOTTOM - (SIDE - BOTTOM - TOP) * share


def _axes() -> list[Markup]:
    marks = []
    for share in (0.0, 0.5, 1.0):
        marks += [
            element("line", x1=_x(0), x2=_x(1), y1=_y(share), y2=_y(share), class_="rule"),
            element("text", f"{share:g}", x=LEFT - 6, y=_y(share) + 4, text_anchor="end"),
            element("text", f"{share:g}", x=_x(share), y=SIDE - BOTTOM + 15, text_anchor="middle"),
        ]
    return [*marks, element("text", "probability", x=_x(0.5), y=SIDE - 3, text_anchor="middle", class_="axis")]


def _words(content: Mapping[str, Any]) -> str:
    temperature = (content.get("operating") or {}).get("temperature")
    divided = "" if temperature is None else f" The temperature, {temperature:.2f}, was fitted on validation films."
    return (
        "How often a probability came true, over all classes; on the dotted line it means what it says. Larger dots "
        f"stand for more films.{divided}"
    )
