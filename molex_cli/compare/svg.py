"""Figures as SVG inside a page: no ids that collide, no reference outwards, styles and colours of the page's sheet."""

import re
import warnings
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from molex_cli.compare.plots import BACK, COLOURS, GRID
from molex_cli.runtime.streams import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The style sheet gives each of these another value where the reader prefers a dark page.
PAGE_COLOURS = {
    **{colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)},
    GRID: "var(--line)",
    BACK: "var(--back)",
    "#000000": "currentColor",
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
LARGEST = 1.6  # pixels of the page for a point of the figure, at most; at least one, or its text is too small
TOOLTIP = "tooltip"
EMPTY = ("defs", "g", "metadata", "style")  # these are left out unless they hold something to draw
KEPT = ("d", "x", "y", "transform", "viewBox")


class StyleSheet:
    """The styles of all pictures of a page: a class for each, for the page's policy allows no style attribute."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, style: str) -> str:
        """Return the class of a style."""
        return self._names.setdefault(style, f"s{len(self._names)}")

    def __str__(self) -> str:
        return "".join(f".{name} {{ {style} }}\n" for style, name in self._names.items())


def inline(figure: "Figure", name: str, prefix: str, styles: StyleSheet) -> str:
    """Return an `svg` element with an accessible name; ids begin with `prefix`, artists' gids become tooltips."""
    import matplotlib

    tooltips: list[str] = []
    for artist in figure.findobj():
        artist.set_clip_on(False)  # nothing is drawn outside the axes, and clip paths would be named by url()
        if tooltip := artist.get_gid():
            artist.set_gid(f"{TOOLTIP}{len(tooltips)}")
            tooltips.append(tooltip)
    buffer = StringIO()
    # matplotlib takes these from its settings alone; they are as before after the block.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing")  # the browser has its own fonts
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())
    used = {value[1:] for each in root.iter() for key, value in each.items() if _local(key) == "href"}
    ids = {**{each: prefix + each for each in used}, **{f"{TOOLTIP}{i}": "" for i in range(len(tooltips))}}
    drawn = _Page(ids, tooltips, styles).element(root)
    drawn.attrib |= {"role": "img", "aria-label": visible(name)}
    width = float(drawn.attrib["viewBox"].split()[2])
    drawn.set("class", styles.name(f"min-width: {width:.0f}px; max-width: {width * LARGEST:.0f}px"))
    return ElementTree.tostring(drawn, encoding="unicode")


class _Page:
    """Makes the elements of a page of those of a file."""

    def __init__(self, ids: dict[str, str], tooltips: list[str], styles: StyleSheet) -> None:
        self._ids, self._tooltips, self._styles = ids, tooltips, styles

    def element(self, one: ElementTree.Element) -> ElementTree.Element:
        """Return an element with what a page needs of its attributes and children."""
        made = ElementTree.Element(_local(one.tag), self._attributes(one))
        if (own := one.get("id", "")).startswith(TOOLTIP):
            ElementTree.SubElement(made, "title").text = self._tooltips[int(own.removeprefix(TOOLTIP))]
        if made.tag == "text":
            made.text = one.text
        for child in one:
            made.extend(self._shown(child))
        return made

    def _shown(self, child: ElementTree.Element) -> list[ElementTree.Element]:
        """Return a child, what a group holds that does nothing else, or nothing of one that draws nothing."""
        if child.get("style") == "fill: none" and _local(child.tag) == "path":  # a background
            return []
        made = self.element(child)
        if made.tag in EMPTY and not len(made):
            return []
        is_plain = made.tag == "g" and not made.attrib and made[0].tag != "title"
        return list(made) if is_plain else [made]

    def _attributes(self, one: ElementTree.Element) -> dict[str, str]:
        found = {name: _rounded(one.attrib[name]) for name in KEPT if name in one.attrib}
        if found.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
            del found["transform"]
        if own := self._ids.get(one.get("id", "")):
            found["id"] = own
        for key, value in one.items():
            if _local(key) == "href":
                found["href"] = f"#{self._ids[value[1:]]}"
        return {**found, **self._style(_local(one.tag), one.get("style", ""))}

    def _style(self, tag: str, style: str) -> dict[str, str]:
        style = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style)  # of matplotlib before 3.11
        style = re.sub(r" ?font-family: [^;]*;?", "", style)  # the family is the page's
        if tag == "path" and (alone := re.fullmatch(r"fill: (#\w+)", style)) and alone[1] not in PAGE_COLOURS:
            return {"fill": alone[1]}  # a cell of a heat map: each has a colour of its own
        for colour, value in PAGE_COLOURS.items():
            style = style.replace(colour, value)
        return {"class": self._styles.name(style)} if style else {}


def _local(name: str) -> str:
    """Return the name of an element or attribute without its name space."""
    return name.rpartition("}")[2]


def _rounded(numbers: str) -> str:
    """Return numbers with one decimal: a tenth of a point cannot be seen."""
    numbers = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)
    return " ".join(numbers.split())
