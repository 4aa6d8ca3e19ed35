"""Figures as SVG inside a page: no ids that collide, no reference outwards, colours of the page's style sheet."""

import re
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from molex_cli.compare.plots import COLOURS, GRID

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The style sheet gives each of these another value where the reader prefers a dark page.
STYLE_SHEET = {
    **{colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)},
    GRID: "var(--line)",
    "#000000": "currentColor",
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
LARGEST = 1.6  # pixels of the page for a point of the figure, at most
TOOLTIP = "tooltip"
REPLACED = (
    (r"<style.*?</style>", ""),
    (r"font: ([\d.]+px)[^;\"]*", r"font-size: \1"),  # of matplotlib before 3.11
    (r" font-family: [^;\"]*;", ""),  # the family is the page's
    (r' transform="rotate\(-?0 [^"]*"', ""),
    (r'<path d="[^"]*" style="fill: none"/>|<defs></defs>|<g></g>|<g/>', ""),  # backgrounds, and nothing at all
    (r"(?<=[a-zA-Z\d]) *\n(?=[A-Zz\"])", " "),  # inside a path
    (r">\s+<", "><"),
)


def inline(figure: "Figure", name: str, prefix: str) -> str:
    """Return an `svg` element with an accessible name; ids begin with `prefix`, artists' gids become tooltips."""
    import matplotlib

    tooltips: list[str] = []
    for artist in figure.findobj():
        artist.set_clip_on(False)  # nothing is drawn outside the axes, and clip paths would be named by url()
        if tooltip := artist.get_gid():
            artist.set_gid(f"{TOOLTIP}{len(tooltips)}")
            tooltips.append(f"<g><title>{escape(tooltip)}</title>")
    buffer = StringIO()
    # matplotlib takes these from its settings alone; they are as before after the block.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    return _for_page(buffer.getvalue(), name, prefix, tooltips)


def _for_page(text: str, name: str, prefix: str, tooltips: Sequence[str]) -> str:
    """Return the `svg` element of a file, its size left to the page."""
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', text)
    assert box is not None
    widest = f"max-width: {float(box[1]) * LARGEST:.0f}px"
    body = text[text.index(">", box.end()) + 1 :]
    for pattern, replacement in REPLACED:
        body = re.sub(pattern, replacement, body, flags=re.S)
    body = re.sub(r' (d|x|y|transform)="[^"]*"', lambda found: _rounded(found[0]), body)
    for colour, value in STYLE_SHEET.items():
        body = body.replace(colour, value)
    body = re.sub(rf'<g id="{TOOLTIP}(\d+)">', lambda found: tooltips[int(found[1])], body)
    body = _own_ids(body, prefix).strip()
    return f'<svg {box[0]} style="{widest}" role="img" aria-label="{escape(name)}">{body}'


def _rounded(numbers: str) -> str:
    """Return an attribute with two decimals: a hundredth of a point cannot be seen."""
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", numbers)


def _own_ids(body: str, prefix: str) -> str:
    """Return the same with ids that are unique in the page; those that nothing refers to are left out."""
    used = set(re.findall(r'href="#([^"]+)"', body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", body)
    return body.replace('href="#', f'href="#{prefix}')
