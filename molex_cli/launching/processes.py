"""What a run of several processes starts: torchrun, and through it each process.

Of an end by a signal both say nothing: the run's own lines say it, and the launcher's.
"""

import logging
import signal
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Do the part of one process of the run of a file, or with other arguments be torchrun, which takes those."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what Python says of Ctrl-C amid imports is a page
    if len(arguments) == 1:
        return _work(Path(arguments[0]))
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.run import main as torchrun

    logging.disable(logging.WARNING)  # that it got a signal and passes it on
    try:
        torchrun(arguments)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _work(job: Path) -> int:
    from molex_cli.launching.torchrun import part
    from molex_cli.runtime.streams import safe_streams

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with safe_streams(outlive_readers=True):
        return part(job)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
