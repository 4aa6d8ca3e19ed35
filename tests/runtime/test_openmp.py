"""How long OpenMP's threads spin is bounded before torch is loaded, unless the user says how they wait."""

import os
import subprocess
import sys

import pytest

from molex_cli.runtime.openmp import BOUNDS, POLICIES

WAYS = (*BOUNDS, *POLICIES)
SHOW = f"print({{name: os.environ[name] for name in {WAYS} if name in os.environ}})"


def python(code, **own):
    """Return what a fresh Python prints, without a word of ours in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in WAYS} | own
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip() + done.stderr


def test_the_package_bounds_it_for_itself_and_for_the_processes_that_it_starts():
    child = f"import os; {SHOW}"
    code = f"import molex_cli, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert eval(python(code)) == BOUNDS


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "200"}])
def test_a_value_of_the_users_wins(own):
    assert eval(python(f"import os, molex_cli; {SHOW}", **own)) == BOUNDS | own


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"KMP_LIBRARY": "turnaround"}])
def test_a_policy_of_the_users_is_left_alone(own):
    assert eval(python(f"import os, molex_cli; {SHOW}", **own)) == own


def test_once_torch_is_loaded_it_is_too_late_and_nothing_is_set():
    assert eval(python(f"import os, sys; sys.modules['torch'] = os; import molex_cli; {SHOW}")) == {}


def test_torchs_openmp_reads_it():
    told = python("import molex_cli, torch", OMP_DISPLAY_ENV="verbose")
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("this torch has another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = '{BOUNDS['GOMP_SPINCOUNT']}'" in told
