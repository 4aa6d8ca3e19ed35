"""Sizes as people write them."""

import pytest

from molex_cli.errors import ConfigError
from molex_cli.runtime.sizes import parsed, shown


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24GB", 24 * 10**9),
        ("24 gb", 24 * 10**9),
        ("24GiB", 24 * 2**30),
        ("1.5TB", 1_500_000_000_000),
        ("300MiB", 300 * 2**20),
        ("12B", 12),
    ],
)
def test_a_size_is_read(text, count):
    assert parsed(text, "--fit") == count


@pytest.mark.parametrize("text", ["24", "GB", "-1GB", "0GB", "24GX", "1e3GB", "nan GB", "", "24GB 3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="--fit must be a size above 0 such as 24GB or 80GiB, got"):
        parsed(text, "--fit")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_230, "1.23 KB"), (345_600_000, "346 MB"), (50_000_000_000, "50 GB")],
)
def test_a_size_is_shown(count, text):
    assert shown(count) == text
