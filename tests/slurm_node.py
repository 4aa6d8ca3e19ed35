"""A Slurm of one node on this machine's loopback, for tests: no root's files, gone afterwards."""

import getpass
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

CONF = """\
ClusterName=molex-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
CommunicationParameters=NoInAddrAny
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES State=UP
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def one_node(folder: Path):
    """Start munged, slurmctld and slurmd with all their files in the folder; yield the environment that finds them."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    for private in (folder, folder / "munge.key"):
        private.chmod(0o700 if private.is_dir() else 0o400)
    host = socket.gethostname().split(".")[0]
    ports = {"port": free_port(), "other_port": free_port()}
    (folder / "slurm.conf").write_text(CONF.format(host=host, user=getpass.getuser(), folder=folder, **ports))
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{name}" for option, name in places.items()]
    daemons = []
    try:
        for command in (["munged", "-F", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            log = (folder / f"{command[0]}.out").open("w")
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(2)
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo"], env=environment, capture_output=True, text=True).stdout:
            assert time.monotonic() < deadline, "\n".join(path.read_text() for path in folder.glob("*.out"))
            time.sleep(0.5)
        yield {"SLURM_CONF": environment["SLURM_CONF"]}
    finally:
        subprocess.run(["scancel", "-u", getpass.getuser()], env=environment, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(20)
