"""Print the shape of the code: rooms, imports between them, lengths of files and functions (`make house`)."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "molex_cli"


def floors() -> dict[str, int]:
    """Return the floor of each room, 0 the lowest, from the list in CONTRIBUTING.md."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = text.split("<!-- floors -->")[1].strip().splitlines()
    names = [line.split("`")[1::2] for line in listed if line.startswith("1.")]
    return {room: floor for floor, rooms in enumerate(reversed(names)) for room in rooms}


def files() -> Iterator[tuple[Path, str, ast.Module]]:
    """Yield every file of the package: its path, text and syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path, text, ast.parse(text)


def room_of(path: Path) -> str:
    """Return the room that a file belongs to: its folder, or itself beside the folders."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST, rooms: set[str]) -> set[str]:
    """Return the rooms that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("molex_cli"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & rooms


def arrows() -> set[tuple[str, str]]:
    """Return the pairs of rooms of which the first imports the second."""
    rooms = set(floors())
    pairs = {(room_of(path), other) for path, _, tree in files() for other in imported(tree, rooms)}
    return {(own, other) for own, other in pairs if own in rooms and own != other}


def longest_chain() -> int:
    """Return how many rooms the longest chain of imports passes."""
    pairs = arrows()
    length: dict[str, int] = {}
    for room in sorted(floors(), key=floors().__getitem__):
        length[room] = 1 + max((length[other] for own, other in pairs if own == room), default=0)
    return max(length.values())


def functions() -> list[tuple[int, str]]:
    """Return length and name of every function, shortest first; decorators do not count."""
    found = []
    for path, _, tree in files():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append((length, f"{path.relative_to(PACKAGE)}:{node.name}"))
    return sorted(found)


def median_and_p95() -> tuple[float, int]:
    """Return the median and the 95th percentile of the functions' lengths."""
    lengths = [length for length, _ in functions()]
    return statistics.median(lengths), lengths[int(0.95 * len(lengths))]


def long_files(limit: int = 300) -> list[str]:
    """Return the files of more lines than the limit."""
    return [str(path.relative_to(PACKAGE)) for path, text, _ in files() if len(text.splitlines()) > limit]


def rooms() -> Iterator[str]:
    """Yield a line for each room: floor, name, the first sentence of its docstring."""
    for room, floor in sorted(floors().items(), key=lambda item: -item[1]):
        path = PACKAGE / room / "__init__.py"
        text = ast.get_docstring(ast.parse((path if path.exists() else PACKAGE / f"{room}.py").read_text("utf-8")))
        yield f"{floor:2}  {room:12} {(text or '').split('. ')[0].splitlines()[0]}"


def main() -> None:
    """Print it all."""
    print(*rooms(), sep="\n")
    median, p95 = median_and_p95()
    print(f"\nlongest chain of imports {longest_chain()} rooms, {len(arrows())} arrows between rooms")
    print(
        f"files above 300 lines {len(long_files())}, functions {len(functions())}, median {median:g}, p95 {p95} lines"
    )
    print("longest functions", *(f"  {length:3}  {name}" for length, name in functions()[:-11:-1]), sep="\n")


if __name__ == "__main__":
    main()
