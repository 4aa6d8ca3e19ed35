"""The clean process that jobs are forked from."""

import signal
import subprocess
import sys

INTERRUPTED = """
import os, signal, sys

class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "molex_cli.run":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
import molex_cli.launching.preload
"""


def test_an_interrupt_in_the_midst_of_its_imports_says_nothing():
    made = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_after_them_is_raised_in_the_jobs():
    code = "import molex_cli.launching.preload, signal\nassert signal.getsignal(2) is signal.default_int_handler"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
