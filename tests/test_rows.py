"""The shape of the code: a module imports only from lower rows, and no file grows two subjects."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "molex_cli"
ROWS = [
    {"errors", "events", "figures", "metrics", "signals", "writing"},
    {"allocation", "routing", "records", "hardware", "hub", "processes", "tasks"},
    {"backbones", "data", "stats", "redundancy"},
    {"layers", "contributions"},
    {"methods"},
    {"objectives", "schema", "plan"},
    {"training", "evaluation", "checkpoint", "identity", "placing", "progress", "sinks"},
    {"recording"},
    {"run", "compare", "continual", "bench", "bench_inference", "saved", "probe", "knockout", "exchange"},
    {"launch"},
    {"sweep"},
    {"cli"},
]
ROW = {module: row for row, modules in enumerate(ROWS) for module in modules}
# Within a row: training yields what evaluation adds to and checkpoint keeps.
WITHIN = {
    ("evaluation", "training"),
    ("progress", "training"),
    ("progress", "evaluation"),
    ("progress", "checkpoint"),
    ("metrics", "writing"),
    ("writing", "errors"),
    ("run", "continual"),
    ("probe", "saved"),
    ("knockout", "saved"),
    ("bench_inference", "bench"),
    ("bench_inference", "exchange"),
    ("exchange", "saved"),
}


def imported(path: Path) -> set[str]:
    """Return the top modules of the package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("molex_cli"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & set(ROW)


def test_a_module_imports_only_from_lower_rows():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own not in ROW:
            continue
        for other in imported(path) - {own}:
            if ROW[other] >= ROW[own] and (own, other) not in WITHIN:
                wrong.append(f"{path.name} imports {other}")
    assert not wrong


def test_every_module_has_a_row():
    names = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert names - {"conf"} == set(ROW)


def test_no_file_is_longer_than_a_reader_holds():
    long = [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 350]
    assert not long
