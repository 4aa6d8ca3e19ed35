"""A fuzzer: damages every file a run leaves, and every setting, and asks what each command does about it.

`python -m fuzz --help` (with PYTHONPATH=tests), `make fuzz` for an hour; the tests run it for less than a minute.
"""
