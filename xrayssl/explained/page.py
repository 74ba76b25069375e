"""explain.html: where one network looks, in plain words, figures with their nulls, and films; opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from xrayssl import __version__
from xrayssl.comparison.naming import chance, metric_name, signed, span
from xrayssl.comparison.sheet import STYLE
from xrayssl.explain.nulls import GAUSSIAN, OTHERS, RANDOM, UNIFORM
from xrayssl.explained import plots
from xrayssl.study.films import embedded
from xrayssl.study.markup import Markup, element
from xrayssl.study.page import page
from xrayssl.study.words import amount, decimal

BAND = "edge_energy_0.125"
SURE = 0.05
OVERLAPS = {"iou": "IoU", "iobb": "IoBB"}
ORDER = (UNIFORM, GAUSSIAN, RANDOM, OTHERS)
ONE = (
    "This is one checkpoint: intervals and p are over patients, for this network as trained. Another training of the "
    "same recipe may look elsewhere; name several seeds to compare recipes."
)
AREA = "The border is an eighth of the side on all four sides, which is 44 % of the area; 1 is what a uniform map has."
SHEETS = """
.sheets figure { margin: 0 0 26px; } .sheets img { display: block; width: 100%; height: auto; max-width: 1060px; }
.numbers td:not(:first-child) { white-space: nowrap; } .numbers small { display: block; color: var(--quiet); }
@media screen and (max-width: 860px) {
  .numbers thead { display: none; } .numbers tr { display: grid; grid-template-columns: 1fr 1fr; gap: 4px 12px;
    padding: 10px 0; border-top: 1px solid var(--rule); }
  .numbers td { border: 0; padding: 0; white-space: normal !important; }
  .numbers td:first-child { grid-column: 1 / -1; }
  .numbers td[data-label]::before { content: attr(data-label); display: block; color: var(--quiet); font-size: 12px; }
}
@media print { .sheets figure { break-inside: avoid; } }
"""


def as_html(content: Mapping[str, Any], sheets: Sequence[tuple[str, Path]]) -> str:
    """The page.

    Args:
        content: Of explain.json.
        sheets: Group and picture of each overlay sheet.
    """
    numbers = {row["name"]: row for row in content["numbers"]}
    body = [header(content, numbers), figures(content, numbers), table(content), deeper(content), films(sheets),
            footer(content)]  # fmt: skip
    return page("Where it looks", *body, style=STYLE + SHEETS)


def header(content: Mapping[str, Any], numbers: Mapping[str, Any]) -> Markup:
    """Title, the answer in plain words, and what it is worth."""
    return element("header", element("p", "xrayssl", class_="eyebrow"), element("h1", "Where it looks"),
                   element("p", " ".join(sentences(content, numbers)), class_="summary"),
                   element("p", ONE, class_="warning"), element("p", AREA, class_="note"))  # fmt: skip


def sentences(content: Mapping[str, Any], numbers: Mapping[str, Any]) -> Iterator[str]:
    """What was found; nothing beyond the intervals."""
    kind = content["facts"]["kind"].replace("_", " ")
    films = amount(content["films"], "film", content["patients"])
    yield f"{content['maps']:,} maps ({kind}) of {content['facts']['network']} on {films}."
    if content["empty_rate"] > 0:
        yield f"{100 * content['empty_rate']:.0f} % of them are empty and have no place in the figures."
    row = numbers.get(BAND)
    if row and row["value"] is not None:
        against = [words for name in (UNIFORM, RANDOM) if (words := _against(row["nulls"].get(name), name))]
        yield f"The border has {decimal(row['value'])} times the energy of its area: {' and '.join(against)}."
    for name, row in numbers.items():
        if name.startswith("relative_energy/") and row["value"] is not None:
            against = [words for null in (UNIFORM, GAUSSIAN, RANDOM, OTHERS)
                       if (words := _against(row["nulls"].get(null), null))]  # fmt: skip
            region = name.partition("/")[2]
            yield (f"The region “{region}” has {decimal(row['value'])} times the energy of its area "
                   f"({row['films']} maps): {', '.join(against)}.")  # fmt: skip


def _against(one: Mapping[str, Any] | None, null: str) -> str | None:
    if not one or one["difference"] is None:
        return None
    which = plots.IN_SENTENCES[null]
    if one["p_holm"] is None or one["p_holm"] >= SURE:
        return f"not shown to differ from {which}"
    more = "more" if one["difference"] > 0 else "less"
    return f"{more} than {which} ({signed(one['difference'])}, {span(one)})"


def figures(content: Mapping[str, Any], numbers: Mapping[str, Any]) -> Markup:
    """Lines of the network beside those of its nulls."""
    there = [name for name in plots.STYLE if name in content["profile"]]
    panels = {"Energy in the border over its area": plots.border(numbers),
              "Density from the middle outwards": plots.rings(content["profile"])}  # fmt: skip
    drawn = [element("figure", element("figcaption", title), panel) for title, panel in panels.items()]
    note = element("p", "Bars are 95 % intervals over patients. The dotted line is a uniform map.", class_="note")
    return element("section", element("h2", "Middle or border?"), plots.legend(there), note,
                   element("div", drawn, class_="pair"), class_="run")  # fmt: skip


def table(content: Mapping[str, Any]) -> Markup:
    """Every number beside its nulls."""
    nulls = [name for name in ORDER if any(name in row["nulls"] for row in content["numbers"])]
    titles = [element("th", words, scope="col") for words in ("Number", "Mean", *(f"against {plots.WORDS[name]}"
                                                                                  for name in nulls))]  # fmt: skip
    rows = [_row(row, nulls) for row in content["numbers"] if row["value"] is not None]
    body = element("table", element("thead", element("tr", titles)), element("tbody", rows), class_="numbers")
    words = ("Differences of the same maps, with 95 % intervals over patients; p is adjusted by Holm over the whole "
             "table. Entropy and Gini are those of single maps; a uniform map has 1 and 0.")  # fmt: skip
    note = element("p", words, class_="note")
    return element(
        "section", element("h2", "Numbers and their nulls"), note, body, *overlap_table(content), class_="run"
    )


def _row(row: Mapping[str, Any], nulls: Sequence[str]) -> Markup:
    first = element("td", metric_name(row["name"]), element("small", amount(row["films"], "map", row["patients"])))
    mean = element("td", element("span", decimal(row["value"])), element("small", span(row)), data_label="Mean")
    return element("tr", first, mean, _differences(row["nulls"], nulls))


def _differences(row: Mapping[str, Any], nulls: Sequence[str]) -> list[Markup]:
    """Cells of the differences to each null."""
    cells = []
    for name in nulls:
        one = row.get(name)
        words: list[object] = ["–"]
        if one and one["difference"] is not None:
            small = element("small", f"{span(one)}; p {chance(one['p_holm'])}")
            words = [element("span", signed(one["difference"])), small]
        cells.append(element("td", words, data_label=f"against {plots.WORDS[name]}"))
    return cells


def overlap_table(content: Mapping[str, Any]) -> list[Markup]:
    """IoU, IoBB and hit rates of each region, beside their nulls."""
    found = content["overlaps"]
    if not found:
        return []
    pairs = [(name, overlap, found[name][overlap]) for name in found for overlap in OVERLAPS]
    hits = f"Hits above {', '.join(pairs[0][2]['hits'])}"
    nulls = [name for name in ORDER if any(name in one["nulls"] for _, _, one in pairs)]
    titles = ["Overlap", "Mean", hits, *(f"against {plots.WORDS[name]}" for name in nulls)]
    rows = [_overlap(f"{OVERLAPS[overlap]}, {name}", hits, one, nulls) for name, overlap, one in pairs]
    shares = ", ".join(f"{one['share']:.2f} for {name}" for name, one in found.items())
    note = (f"Maps are cut at a share of their maximum that the other patients' films chose (median {shares}), and so "
            "is every null.")  # fmt: skip
    head = element("thead", element("tr", [element("th", title, scope="col") for title in titles]))
    return [element("h3", "Overlap with regions"), element("p", note, class_="note"),
            element("table", head, element("tbody", rows), class_="numbers")]  # fmt: skip


def _overlap(name: str, hits: str, one: Mapping[str, Any], nulls: Sequence[str]) -> Markup:
    mean = element("td", element("span", decimal(one["value"])), element("small", span(one)), data_label="Mean")
    rates = element("td", ", ".join(decimal(rate) for rate in one["hits"].values()), data_label=hits)
    return element("tr", element("td", name), mean, rates, _differences(one["nulls"], nulls))


def deeper(content: Mapping[str, Any]) -> Markup | None:
    """Whether the network needs what the maps point to, and learned it."""
    parts: list[object] = []
    if content.get("faithfulness"):
        parts += [element("h3", "Does the network need what the map points to?"), *faithful(content["faithfulness"])]
    if content.get("cascade"):
        words = ("As weights are lost from the head downwards, maps should become others. The dashed line is how alike "
                 "the network's maps of different patients are: a map that stays above it with all weights lost does "
                 "not depend on what was learned.")  # fmt: skip
        parts += [element("h3", "Do the maps depend on what was learned?"), element("p", words, class_="note"),
                  element("div", element("figure", plots.cascade(content["cascade"])), class_="pair")]  # fmt: skip
    return element("section", element("h2", "Are the maps to be believed?"), parts, class_="run") if parts else None


def faithful(found: Mapping[str, Any]) -> Iterator[Markup]:
    """Insertion, deletion and ROAD beside other orders."""
    rows = [("Insertion less that of a random order; more is better", found["insertion"]["random"]),
            ("Insertion less that of a centred Gaussian's", found["insertion"]["centred_gaussian"]),
            ("Deletion less that of a random order; less is better", found["deletion"]["random"]),
            ("Deletion less that of a centred Gaussian's", found["deletion"]["centred_gaussian"]),
            ("ROAD, least important first less most important first; more is better",
             found["road"]["least_first_less_most_first"])]  # fmt: skip
    cells = [element("tr", element("td", name), element("td", signed(one["difference"])), element("td", span(one)),
                     element("td", chance(one["p_holm"]))) for name, one in rows]  # fmt: skip
    head = element("tr", [element("th", title, scope="col") for title in ("Area under the curve", "Difference",
                                                                          "95 % interval", "p (Holm)")])  # fmt: skip
    yield element("p", f"On {amount(found['films'], 'film')}; probabilities of the explained class.", class_="note")
    yield element("table", element("thead", head), element("tbody", cells), class_="numbers")


def films(sheets: Sequence[tuple[str, Path]]) -> Markup | None:
    """The overlay sheets, in their groups."""
    parts: list[Markup] = []
    for group in dict.fromkeys(group for group, _ in sheets):
        parts.append(element("h3", group))
        for path in (path for name, path in sheets if name == group):
            with Image.open(path) as image:
                parts.append(element("figure", embedded(image.convert("RGB"), path.stem, quality=85)))
    note = element("p", "Colours are scaled to each map's own maximum: they tell where, never how much.", class_="note")
    return element("section", element("h2", "Films"), note, parts, class_="run sheets") if parts else None


def footer(content: Mapping[str, Any]) -> Markup:
    """Where the page comes from."""
    facts = content["facts"]
    words = [f"Run {facts['run']}, checkpoint {facts['checkpoint'][0]}, classes by {' '.join(facts['classes'])}, "
             f"{facts['split']} films, layer {facts['layer'] or 'backbone.grid'}.",
             f"Written by xrayssl {__version__}. The page is complete in itself; it holds films: share it as you may "
             "share them."]  # fmt: skip
    return element("footer", element("p", " ".join(words), class_="note"))
