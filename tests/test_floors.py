"""The shape of the code: a module imports only from lower floors, files and functions stay short."""

from house import PACKAGE, files, floors, imported, long_files, longest_chain, median_and_p95, room_of

FLOOR = floors()


def test_a_module_imports_only_from_lower_floors():
    wrong = []
    for path, _, tree in files():
        own = room_of(path)
        if own not in FLOOR:
            continue
        others = imported(tree, set(FLOOR)) - {own}
        wrong += [f"{own}/{path.name} imports {other}" for other in others if FLOOR[other] >= FLOOR[own]]
    assert not wrong


def test_every_room_has_a_floor():
    names = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert names - {"conf", "py.typed"} == set(FLOOR)


def test_there_are_at_most_thirteen_floors():
    assert len(set(FLOOR.values())) <= 13
    assert longest_chain() <= 13


def test_rooms_lie_no_deeper_than_two_folders():
    deep = [path for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 3]
    assert not deep


def test_no_file_is_longer_than_a_reader_holds():
    assert not long_files(300)


def test_functions_are_short():
    median, p95 = median_and_p95()
    assert median <= 10
    assert p95 <= 35
