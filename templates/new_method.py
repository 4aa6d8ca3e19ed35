"""Write the files of a new method from templates/method: `python templates/new_method.py NAME [ROOT]`."""

import keyword
import re
import sys
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parent / "method"
FILES = {
    "method.py.txt": "molex_cli/methods/{}.py",
    "method.yaml.txt": "conf/method/{}.yaml",
    "test_method.py.txt": "tests/methods/test_{}.py",
}


def main(name: str, root: Path) -> int:
    """Write the files under the root, or say in one line why not."""
    targets = {template: root / path.format(name) for template, path in FILES.items()}
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        return _refuse(f"NAME must be a lower-case Python name, got {name!r}; write NAME=my_method")
    taken = [path for path in (*targets.values(), root / "molex_cli/methods" / name) if path.exists()]
    if taken:
        return _refuse(f"NAME must be new, got {name}, for which there is {taken[0]}; choose another")
    for template, target in targets.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        target.write_text(text.replace("@NAME@", name).replace("@CLASS@", name.title().replace("_", "")), "utf-8")
        print(target)
    return 0


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    given = [*sys.argv[1:], ""]
    sys.exit(main(given[0], Path(given[1] or TEMPLATES.parent.parent)))
