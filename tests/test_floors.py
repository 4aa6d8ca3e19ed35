"""The shape of the code: a module imports only from lower floors, and no file grows two subjects."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "molex_cli"


def floors() -> dict[str, int]:
    """Return the floor of each room, 0 the lowest, from the list in CONTRIBUTING.md."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = text.split("<!-- floors -->")[1].strip().splitlines()
    names = [line.split("`")[1::2] for line in listed if line.startswith("1.")]
    return {room: floor for floor, rooms in enumerate(reversed(names)) for room in rooms}


FLOOR = floors()


def imported(path: Path) -> set[str]:
    """Return the rooms that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("molex_cli"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & set(FLOOR)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_a_module_imports_only_from_lower_floors():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = room_of(path)
        if own not in FLOOR:
            continue
        others = imported(path) - {own}
        wrong += [f"{own}/{path.name} imports {other}" for other in others if FLOOR[other] >= FLOOR[own]]
    assert not wrong


def test_every_room_has_a_floor():
    names = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert names - {"conf"} == set(FLOOR)


def test_there_are_at_most_thirteen_floors():
    assert len(set(FLOOR.values())) <= 13


def test_rooms_lie_no_deeper_than_two_folders():
    deep = [path for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 3]
    assert not deep


def test_no_file_is_longer_than_a_reader_holds():
    long = [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text(encoding="utf-8").splitlines()) > 300]
    assert not long
