"""The comparison for other programs and for papers: CSV, Markdown, LaTeX, and for a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from xrayssl.comparison.effects import SEEDS
from xrayssl.comparison.naming import DAGGER, metric_name
from xrayssl.comparison.tables import Line, heading, lines, ranked, scope
from xrayssl.study.report import PHANTOMS

COLUMNS = (
    "recipe", "network", "fraction", "metric", "seeds", "scope", "selected_on", "value", "low", "high", "sd", "df",
    "bootstrap_low", "bootstrap_high", "reference", "difference", "difference_low", "difference_high", "t",
    "difference_df", "p", "p_holm", "effect", "difference_bootstrap_low", "difference_bootstrap_high",
)  # fmt: skip
TITLES = ("Recipe", "Seeds", "Mean (95 % interval)", "Difference (95 % interval)", "p (Holm)", "g")
METHOD = (
    "Intervals hold seeds and patients (Obuchowski-Rockette, Hillis' degrees of freedom); p is two-sided, adjusted by "
    "Holm over the recipes and networks of a table; g is Hedges' effect size over seeds."
)


def as_csv(content: dict[str, Any]) -> str:
    """Every metric of every recipe, a row each."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    apart = {tuple(one[key] for key in COLUMNS[:4]): one for one in content["differences"]}
    for row in content["recipes"]:
        for metric, entry in row["metrics"].items():
            about = {key: row[key] for key in COLUMNS[:3]} | {"metric": metric}
            writer.writerow(_flat(about, row, entry, apart.get(tuple(about.values()))))
    return file.getvalue()


def _flat(
    about: dict[str, Any], row: dict[str, Any], entry: dict[str, Any], one: dict[str, Any] | None
) -> dict[str, Any]:
    own = {key: entry[key] for key in ("value", "low", "high", "sd", "df")}
    found = about | {"seeds": len(row["seeds"]), "scope": row["scope"], "selected_on": row["selected_on"]} | own
    found |= _ends("bootstrap", entry["bootstrap"])
    if one:
        found |= {key: one[key] for key in ("reference", "t", "p", "p_holm", "effect")}
        found |= {"difference": one["value"], "difference_df": one["df"], **_ends("difference", one)}
        found |= _ends("difference_bootstrap", one["bootstrap"])
    return found


def _ends(name: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    return {f"{name}_{end}": entry[end] for end in ("low", "high")} if entry else {}


def _tables(content: dict[str, Any]) -> Iterator[tuple[float, str, list[Line]]]:
    """Tables of the headline metric, the greatest amount of labels first, network by network."""
    for table in content["tables"]:
        found = lines(content, table["network"], table["fraction"], [content["headline"]])
        if found:
            yield table["fraction"], table["network"], found


def _words(line: Line) -> list[str]:
    return [line.recipe, scope(line), *(_joined(*pair) for pair in (line.mean, line.apart)), line.p, line.g]


def _joined(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _caption(content: dict[str, Any]) -> str:
    against = f"; differences to {content['reference']}" if content["reference"] else ""
    films = f"{content['films']:,} films of {content['patients']:,} patients"
    return f"{metric_name(content['headline'])} on {films}{against}"


def method(content: dict[str, Any]) -> list[str]:
    """How intervals were made; of a single seed each, the notes tell it."""
    return [METHOD] if any(row["scope"] == SEEDS for row in content["recipes"]) else []


def closing(content: dict[str, Any]) -> list[str]:
    """Sentences below every table, wherever it goes."""
    return [
        *method(content),
        *([f"Some data are phantoms.{PHANTOMS}"] if content["phantoms"] else []),
        *content["notes"],
    ]


def as_text(content: dict[str, Any]) -> str:
    """For a terminal."""
    found = [_caption(content)]
    for fraction, network, rows in _tables(content):
        cells = [TITLES, *map(_words, rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(TITLES))]
        found.append(f"\n{heading(content, fraction)}, {network}{_unranked(content, network, fraction)}")
        found += ["  " + "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
                  for row in cells]  # fmt: skip
    found += ["", *closing(content)]
    return "\n".join(found) + "\n"


def _unranked(content: dict[str, Any], network: str, fraction: float) -> str:
    return "" if ranked(content, network, fraction) else "; not ranked: not every recipe has several seeds"


def as_markdown(content: dict[str, Any]) -> str:
    """For a README or a repository's page."""
    found = [f"**{content['title']}.** {_caption(content)}."]
    for fraction, network, rows in _tables(content):
        found.append(f"\n{heading(content, fraction)}, `{network}`{_unranked(content, network, fraction)}\n")
        found += [_row(TITLES), _row(["---"] * len(TITLES)), *(_row([*map(_plain, _words(line))]) for line in rows)]
    return "\n\n".join(["\n".join(found), *closing(content)]) + "\n"


def _row(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |"


def _plain(words: str) -> str:
    """Without what a table of Markdown would read as its own."""
    return re.sub(r"([|\\*_<>`])", r"\\\1", words)


def as_latex(content: dict[str, Any]) -> str:
    """Tables for a paper, with the packages booktabs; networks are groups of rows."""
    found = ["% \\usepackage{booktabs}"]
    by_amount: dict[float, list[tuple[str, list[Line]]]] = {}
    for fraction, network, rows in _tables(content):
        by_amount.setdefault(fraction, []).append((network, rows))
    for fraction, tables in by_amount.items():
        caption = f"{_caption(content)}. {heading(content, fraction)}. {' '.join(closing(content))}"
        found += ["\\begin{table}", "\\centering", f"\\caption{{{tex(caption)}}}", "\\begin{tabular}{llllrr}",
                  "\\toprule", " & ".join(map(tex, TITLES)) + " \\\\"]  # fmt: skip
        for network, rows in tables:
            found += ["\\midrule", f"\\multicolumn{{6}}{{l}}{{{tex(network)}}} \\\\"]
            found += [" & ".join(map(tex, _words(line))) + " \\\\" for line in rows]
        found += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(found)


TEX = {"\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
       "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "−": "$-$", "–": "--",
       DAGGER: "$^\\dagger$", "²": "$^2$"}  # fmt: skip


def tex(words: str) -> str:
    """Words that LaTeX sets as they are."""
    return "".join(TEX.get(letter, letter) for letter in words)
