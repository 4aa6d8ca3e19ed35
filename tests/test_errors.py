"""What all errors share."""

from molex_cli.errors import shortened


def test_a_message_with_a_huge_value_keeps_its_ends():
    message = "seed must be a number, got " + "x" * 10**6 + "; choose another"
    found = shortened(message)
    assert len(found) < 2100
    assert found.startswith("seed must be a number, got xxx")
    assert found.endswith("xxx; choose another")
    assert shortened("short") == "short"
