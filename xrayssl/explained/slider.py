"""One page on which a slider turns the same films from recipe to recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from xrayssl.comparison.sheet import STYLE
from xrayssl.explain import overlay
from xrayssl.explained.collection import Collection
from xrayssl.explained.sheets import Films, Shown
from xrayssl.study.films import embedded
from xrayssl.study.markup import Markup, element
from xrayssl.study.page import page

WORDS = (
    "The same films, explained for the same class, by one network of each recipe (the first seed). Colours are scaled "
    "to each map's own maximum: they tell where, never how much."
)
LOOK = """
.slider { display: none; position: sticky; top: 0; z-index: 2; gap: 6px 18px; align-items: center; padding: 12px 18px;
  background: var(--wash); flex-wrap: wrap; }
.live .slider { display: flex; } .slider input { flex: 1 1 240px; min-width: 0; } .slider output { font-weight: 600; }
.turned { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr)); gap: 22px;
  margin-top: 26px; }
.turned img { display: block; width: 100%; height: auto; } .stack figure { margin: 0 0 8px; }
.live .stack figure[hidden] { display: none; }
@media print { .slider, .live .slider { display: none; } .live .stack figure[hidden] { display: block; } }
"""
SCRIPT = """
(function () {
  "use strict";
  var range = document.querySelector(".slider input"), out = document.querySelector(".slider output");
  document.documentElement.classList.add("live");
  function turn() {
    var names = range.getAttribute("data-names").split("|"), wanted = names[Number(range.value)];
    out.textContent = wanted;
    document.querySelectorAll(".stack figure").forEach(function (one) {
      one.hidden = one.getAttribute("data-recipe") !== wanted;
    });
  }
  range.addEventListener("input", turn);
  turn();
})();
"""


def as_html(films: Mapping[str, Films], found: Mapping[str, Collection], shown: Sequence[Shown]) -> str:
    """The page.

    Args:
        films: Recipe to the films as its network saw them.
        found: Recipe to the maps of one of its networks, all of the same films and classes.
        shown: Which of them.
    """
    names, first = list(found), next(iter(found.values()))
    ends = {"min": 0, "max": len(names) - 1, "value": 0, "step": 1}
    turn = element("input", type="range", id="recipe", data_names="|".join(names), **ends)
    control = element(
        "div", element("label", "Recipe", for_="recipe"), turn, element("output", names[0]), class_="slider"
    )
    head = element("header", element("p", "xrayssl", class_="eyebrow"), element("h1", "Recipe by recipe"),
                   element("p", WORDS, class_="note"))  # fmt: skip
    figures = [element("div", element("p", _title(first, one.place), class_="note"), _stack(films, found, one.place))
               for one in shown]  # fmt: skip
    body = element("div", figures, class_="turned")
    return page("Recipe by recipe", head, control, body, style=STYLE + LOOK, script=SCRIPT)


def _stack(films: Mapping[str, Films], found: Mapping[str, Collection], place: int) -> Markup:
    drawn = [_turned(films[recipe], recipe, collection, place) for recipe, collection in found.items()]
    return element("div", drawn, class_="stack")


def _title(collection: Collection, place: int) -> str:
    entry: Any = collection.table.iloc[place]
    return f"{entry['class']}, patient {entry['patient']}"


def _turned(films: Films, recipe: str, collection: Collection, place: int) -> Markup:
    entry: Any = collection.table.iloc[place]
    map_hw = collection.map_Nhw[place]
    picture = Image.fromarray(overlay.blend(films.film(int(entry["row"])), map_hw))
    empty = "" if map_hw.max() > 0 else ", empty map"
    words = f"{recipe}: {entry['probability']:.2f}{empty}"
    return element("figure", embedded(picture, words), element("figcaption", words), data_recipe=recipe)
