"""Makes the pictures of the documentation anew from real runs: a terminal and a report, into docs/pictures/.

make pictures
"""

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text
from support.browser import Tab, tab

DOCS = Path(__file__).resolve().parent
COLUMNS = 100
WIDTH, HEIGHT = 1360, 1065
COLORED = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
TRAIN = "molex train -m method=head,lora,mola_inverted seed=1,2,3 train.epochs=1"
COMPARE = "molex compare outputs/ --columns scores,collapsed,trainable,MFLOPs/token"
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # they would be loaded
FORMAT = FORMAT.replace("Fira Code, monospace", "ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace")


def main() -> None:
    """Train nine small models, then show what the terminal said and the report."""
    with tab() as browser, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        trained = output(f"{TRAIN} log.wandb=disabled")
        draw(browser, trained)


def draw(browser: Tab, trained: str) -> None:
    """Draw both pictures from the runs in outputs/ and what the terminal said of them."""
    ended = [line for line in trained.splitlines() if re.match(r"\[\d+/\d+\] finished", line)]
    terminal({TRAIN: "\n".join(ended), COMPARE: output(COMPARE)})
    output("molex compare outputs/ --html report.html")
    report(browser)


def output(command: str) -> str:
    """Run a command and return what it shows, with its colours."""
    words = [sys.executable, "-m", "molex_cli", *shlex.split(command)[1:]]
    made = subprocess.run(words, env=os.environ | COLORED, stdout=-1, stderr=subprocess.STDOUT, text=True, check=False)
    if made.returncode:
        sys.exit(f"{command}\n{made.stdout}")
    return made.stdout


def terminal(shown: dict[str, str]) -> None:
    """Write the picture of a terminal with commands and what they showed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, text in shown.items():
        console.print(Text(f"$ {command}", "bold"))
        console.print(Text.from_ansi(f"{text.rstrip()}\n"))
    file = DOCS / "pictures/terminal.svg"
    console.save_svg(str(file), title="molex", theme=SVG_EXPORT_THEME, code_format=FORMAT, unique_id="molex")


def report(browser: Tab) -> None:
    """Write the picture of the top of the report."""
    file = DOCS / "pictures/report.png"
    browser.open("report.html", width=WIDTH)
    browser.picture(file)
    whole = Image.open(file).convert("RGB")
    whole.crop((0, 0, whole.width, HEIGHT)).quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
