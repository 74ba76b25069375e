"""comparison.html: one page that opens offline, sorts and filters, and prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xrayssl import __version__
from xrayssl.comparison import plots
from xrayssl.comparison.exports import method
from xrayssl.comparison.naming import chance, figure, lower_is_better, metric_name, signed, span, verdict
from xrayssl.comparison.script import SCRIPT
from xrayssl.comparison.sheet import STYLE
from xrayssl.comparison.tables import Line, heading, lines, ranked, scope
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.page import page
from xrayssl.study.report import PHANTOMS
from xrayssl.study.words import amount

FEWER = "Means over seeds, with 95 % intervals; the axis of labels is logarithmic."
CURVES = "Thin lines are seeds, thick ones their mean (vertical average). The dotted line is chance."
SURE = 0.05
NAMED = 3  # recipes in a sentence
FEWEST = 3  # seeds of a recipe that is called better: with 2, equal ones are told apart in up to 8 % of studies
COLUMNS = ("Recipe", "Mean", "Difference", "p (Holm)", "g")
FULL = ("Recipe", "Network", "Metric", "Seeds", "Mean", "95 % interval", "sd over seeds", "(seed, patient) bootstrap",
        "Difference", "95 % interval", "t", "df", "p", "p (Holm)", "g")  # fmt: skip


def as_html(content: dict[str, Any], more: Sequence[Markup] = ()) -> str:
    """The page.

    Args:
        content: Of comparison.json.
        more: Sections before the table of all figures.
    """
    style = plots.styles(content)
    body: list[Markup | None] = [header(content), filters(content, style)]
    body += [of_amount(content, fraction, style) for fraction in content["fractions"]]
    body += [efficiency(content, style), classes(content, style), *more, everything(content), footer(content)]
    return page(content["title"], *body, style=STYLE, script=SCRIPT)


def header(content: dict[str, Any]) -> Markup:
    """Title, the answer in plain words, and what is to be known before any figure."""
    phantoms = element("p", element("strong", "Some data are phantoms."), PHANTOMS, class_="phantoms")
    warned = [note for note in content["notes"] if note.startswith(("Within-checkpoint", "Figures with a dagger"))]
    return element(
        "header",
        element("p", "xrayssl", class_="eyebrow"),
        element("h1", content["title"]),
        element("p", " ".join(sentences(content)), class_="summary"),
        [element("p", note, class_="warning") for note in warned],
        phantoms if content["phantoms"] else None,
        [element("p", note, class_="note") for note in content["notes"] if note not in warned],
    )


def sentences(content: dict[str, Any]) -> Iterator[str]:
    """What was compared, and what can be said of it; nothing beyond the intervals."""
    names = list(dict.fromkeys(row["recipe"] for row in content["recipes"]))
    films = amount(content["films"], "film", content["patients"])
    yield f"{amount(len(names), 'recipe')} on {amount(len(content['networks']), 'network')}, tested on {films}."
    greatest = content["fractions"][0]
    for network in content["networks"]:
        if ranked(content, network, greatest) and content["reference"]:
            yield from _verdict(content, network, greatest)


def _verdict(content: dict[str, Any], network: str, fraction: float) -> Iterator[str]:
    metric, reference = content["headline"], content["reference"]
    found = [line.difference for line in lines(content, network, fraction, [metric]) if line.difference]
    sure = [one for one in found if one["p_holm"] is not None and one["p_holm"] < SURE and len(one["seeds"]) >= FEWEST]
    for one in sure:
        p = chance(one["p_holm"])
        by = f"{signed(one['value'], one['selected_on'])} of {metric_name(metric)}"
        sure_by = f"95 % interval {span(one)}; p {p if '<' in p else f'= {p}'} after Holm"
        yield f"On {network}, {one['recipe']} is {verdict(metric, one['value'])} than {reference}: {by} ({sure_by})."
    if names := [str(one["recipe"]) for one in found if one not in sure]:
        verb = "differs" if len(names) == 1 else "differ"
        which = _or(names) if len(names) <= NAMED else f"{'the others' if sure else 'the recipes'} ({len(names)})"
        yield f"On {network}, it is not shown that {which} {verb} from {reference}."


def _or(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def filters(content: dict[str, Any], style: plots.Style) -> Markup:
    """What is shown; the recipes' boxes are the legend of all figures, too."""
    chosen = [("network", "Network", {name: name for name in content["networks"]}, "all networks", ""),
              ("metric", "Metric", {name: metric_name(name) for name in content["metrics"]}, "all metrics",
               content["headline"])]  # fmt: skip
    selects = [element("label", element("span", title), element("select", element("option", every, value=""), [
                   element("option", words, value=key, selected="" if key == first else None)
                   for key, words in keys.items()], name=name))
               for name, title, keys, every, first in chosen if len(keys) > 1]  # fmt: skip
    boxes = [element("label", element("input", type="checkbox", name="recipe", value=name, checked=""),
                     element("i", style=f"background:{color}"), name,
                     element("small", " reference") if name == content["reference"] else None)
             for name, (color, _) in style.items()]  # fmt: skip
    return element("form", selects, element("fieldset", element("legend", "Recipes"), boxes), class_="filters")


def of_amount(content: dict[str, Any], fraction: float, style: plots.Style) -> Markup:
    """Tables of one amount of labels, networks side by side; of the greatest amount also the figures."""
    greatest = fraction == content["fractions"][0]
    tables = [table(content, network, fraction) for network in _networks(content, fraction)]
    figures = [element("div", element("h3", metric_name(metric), _less(metric)), element("div", [
                   drawn(content, network, fraction, metric, style) for network in _networks(content, fraction)],
                   class_="pair"), data_metric=metric)
               for metric in content["metrics"]] if greatest else None  # fmt: skip
    return element("section", element("h2", heading(content, fraction)), element("div", tables, class_="pair"), figures,
                   class_="run")  # fmt: skip


def _networks(content: dict[str, Any], fraction: float) -> list[str]:
    return [one["network"] for one in content["tables"] if one["fraction"] == fraction]


def _less(metric: str) -> Markup | None:
    return element("span", " less is better", class_="interval") if lower_is_better(metric) else None


def table(content: dict[str, Any], network: str, fraction: float) -> Markup:
    """Recipes and metrics on one network: mean, difference, p and effect size."""
    free = ranked(content, network, fraction)
    titles = [element("th", element("button", name, type="button") if free or name == "Recipe" else name, scope="col")
              for name in COLUMNS]  # fmt: skip
    rows = [_table_row(line) for line in lines(content, network, fraction, content["metrics"])]
    note = None if free else element("p", "Not ranked: not every recipe has several seeds.", class_="note")
    caption = element("h4", network)
    body = element("table", element("thead", element("tr", titles)), element("tbody", rows), class_="recipes")
    return element("div", caption, note, body, data_network=network)


def _table_row(line: Line) -> Markup:
    one = line.difference or {}
    cells = [(line.recipe, _two(breakable(line.recipe), f"{metric_name(line.metric)}, {scope(line)}")),
             (line.entry["value"], _two(*line.mean)), (one.get("value"), _two(*line.apart)),
             (one.get("p_holm"), line.p), (one.get("effect"), line.g)]  # fmt: skip
    return element("tr", [element("td", words, data_value=_key(key)) for key, words in cells],
                   class_="reference" if line.reference else None, data_recipe=line.recipe,
                   data_metric=line.metric)  # fmt: skip


def breakable(name: str) -> Markup:
    """A name that may break after its underscores."""
    return join(name.split("_"), "_<wbr>")


def _key(value: Any) -> str | None:
    return repr(value) if isinstance(value, float) else value


def _two(first: str, second: str) -> Markup:
    return join([element("span", first), element("small", second) if second else None])


def drawn(content: dict[str, Any], network: str, fraction: float, metric: str, style: plots.Style) -> Markup:
    """Seeds and means, and the forest of differences, of one network."""
    found = [line for line in lines(content, network, fraction, [metric]) if line.entry["value"] is not None]
    every = [line for other in _networks(content, fraction) for line in lines(content, other, fraction, [metric])]
    ends = [line.entry[key] for line in every for key in ("value", "low", "high")]
    seeds = [value for line in every for value in line.entry["per_seed"].values()]
    apart = plots.reach([line.difference for line in every if line.difference])
    scales = plots.span([*ends, *seeds]), plots.span(apart, share=False, zero=True)
    against = [line for line in found if line.difference]
    body = [element("h4", f"{network}: each seed, and their mean"),
            _trees(found, scales[0], [plots.seeds_row(line, scales[0], style) for line in found], "mean")]  # fmt: skip
    if against:
        rows = [plots.forest_row(line, scales[1], style) for line in against]
        body += [element("h4", f"{network}: difference to {content['reference']}"),
                 _trees(against, scales[1], rows, "apart")]  # fmt: skip
    return element("div", body, data_network=network)


def _trees(found: Sequence[Line], scale: plots.Scale, pictures: Sequence[Markup], words: str) -> Markup:
    rows = [element("tr", element("td", breakable(line.recipe)), element("td", picture, class_="plot"),
                    element("td", getattr(line, words)[0], class_="figure"), data_recipe=line.recipe)
            for line, picture in zip(found, pictures, strict=True)]  # fmt: skip
    below = element("tr", element("td"), element("td", plots.axis(scale), class_="plot"), element("td"))
    return element("table", element("tbody", rows, below), class_="trees seeds")


def efficiency(content: dict[str, Any], style: plots.Style) -> Markup | None:
    """Curves over fewer labels, if there are several amounts."""
    if len(content["fractions"]) < 2:
        return None
    figures = []
    for metric in content["metrics"]:
        for network in content["networks"]:
            rows = [row for row in content["recipes"] if row["network"] == network]
            if any(row["metrics"].get(metric, {}).get("value") is not None for row in rows):
                title = f"{metric_name(metric)}, {network}"
                picture = plots.efficiency_panel(rows, metric, content["amount"], style, title)
                figures.append(
                    element("figure", element("figcaption", title), picture, data_metric=metric, data_network=network)
                )
    note = element(
        "p",
        FEWER,
        class_="note",
    )
    return element(
        "section",
        element("h2", "Fewer labels"),
        legend(style),
        note,
        element("div", figures, class_="pair"),
        class_="run",
    )


def legend(style: plots.Style) -> Markup:
    """Which colour is which recipe."""
    return element("p", [element("span", element("i", style=f"background:{color}"), name, data_recipe=name)
                         for name, (color, _) in style.items()], class_="legend")  # fmt: skip


def classes(content: dict[str, Any], style: plots.Style) -> Markup | None:
    """ROC and precision-recall curves of every class."""
    if not content["curves"]:
        return None
    groups = []
    for name, rows in content["curves"].items():
        panels = []
        for network in dict.fromkeys(row["network"] for row in rows):
            own = [row for row in rows if row["network"] == network]
            for kind, words in (("roc", "ROC"), ("pr", "Precision")):
                title = f"{words}, {network}"
                picture = plots.class_panel(own, kind, style, f"{name}: {title}")
                panels.append(element("figure", element("figcaption", title), picture, data_network=network))
        groups.append(join([element("h3", name), element("div", panels, class_="squares")]))
    note = element("p", CURVES, class_="note")
    return element("section", element("h2", "Classes"), legend(style), note, groups, class_="run")


def everything(content: dict[str, Any]) -> Markup:
    """All figures of the shown metrics, at every amount of labels."""
    parts = [element("h2", "All figures")]
    for fraction in content["fractions"]:
        networks = _networks(content, fraction)
        free = all(ranked(content, network, fraction) for network in networks)
        titles = [element("th", element("button", name, type="button") if free or place < 4 else name, scope="col")
                  for place, name in enumerate(FULL)]  # fmt: skip
        rows = [_full(line) for network in networks for line in lines(content, network, fraction, content["metrics"])]
        inside = element("table", element("thead", element("tr", titles)), element("tbody", rows), class_="full")
        parts += [element("h4", heading(content, fraction)), element("div", inside, class_="wide-table", tabindex="0")]
    return element("section", parts, class_="run")


def _full(line: Line) -> Markup:
    one, entry = line.difference or {}, line.entry
    decimals = [(value, f"{value:.{digits}f}".replace("-", "−") if value is not None else "–")
                for value, digits in ((one.get("t"), 2), (one.get("df"), 1))]  # fmt: skip
    cells = [(line.recipe, line.recipe), (line.row["network"], line.row["network"]),
             (metric_name(line.metric), metric_name(line.metric)),
             (str(len(line.row["seeds"])), scope(line)), (entry["value"], figure(entry["value"], line.marked)),
             (entry["low"], span(entry)), (entry["sd"], figure(entry["sd"])),
             (entry["bootstrap"] and entry["bootstrap"]["low"], span(entry["bootstrap"] or {})),
             (one.get("value"), signed(one.get("value"), str(one.get("selected_on")))), (one.get("low"), span(one)),
             *decimals, (one.get("p"), chance(one.get("p"))), (one.get("p_holm"), chance(one.get("p_holm"))),
             (one.get("effect"), line.g)]  # fmt: skip
    return element("tr", [element("td", words, data_value=_key(key)) for key, words in cells], data_recipe=line.recipe,
                   data_network=line.row["network"], data_metric=line.metric)  # fmt: skip


def footer(content: dict[str, Any]) -> Markup:
    """Where the page comes from."""
    how = content["interval"]
    words = [*method(content),
             f"Covariances over patients: {how['resamples']:,} resamples of patients that all runs share.",
             f"{metric_name(content['headline'])} is the declared metric; all others are secondary, and no p is "
             "adjusted for their number.", f"Written by xrayssl {__version__} on {content['written'][:10]}.",
             "The page is complete in itself and opens without a network."]  # fmt: skip
    return element("footer", element("p", " ".join(words), class_="note"))
