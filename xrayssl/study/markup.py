"""HTML and SVG elements that escape their content, so that no page can forget to."""

import html
import re
from collections.abc import Iterable


class Markup(str):
    """Text that is already HTML and is not escaped again."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """Build one element.

    Args:
        name: Of the tag.
        *children: `Markup` is kept, anything else is escaped; iterables are joined, None is left out.
        **attributes: Underscores become hyphens (a trailing one is dropped: `class_`); None is left out.

    Returns:
        The element as text; without children it closes itself.
    """
    pairs = [(re.sub("_", "-", key.rstrip("_")), value) for key, value in attributes.items() if value is not None]
    written = "".join(f' {key}="{html.escape(_text(value))}"' for key, value in pairs)
    inside = join(children)
    return Markup(f"<{name}{written}>{inside}</{name}>" if inside or name not in _VOID else f"<{name}{written}>")


_VOID = frozenset({"img", "meta", "br", "col"})


def join(children: Iterable[object], separator: str = "") -> Markup:
    """Escape and concatenate."""
    return Markup(separator.join(_inside(child) for child in children if child is not None))


def _inside(child: object) -> str:
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return join(child)
    return html.escape(_text(child), quote=False)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
