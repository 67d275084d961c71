"""A Ray cluster of several nodes on this machine, each a raylet with processes of its own."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from tests.ports import free_ports

# Each node has a loopback address of its own. In the place of 127.0.0.1 Ray puts one that other
# machines reach.
HEAD = "127.0.0.2"
START_SECONDS = 120.0
_STORE_BYTES = 80 << 20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A process that has Ray imported cannot come to have a token any more.
    "RAY_AUTH_MODE": "disabled",
    "RAY_memory_monitor_refresh_ms": "0",  # the machine's memory is not the cluster's alone
    "OMP_NUM_THREADS": "1",
}


def _end_with_parent() -> None:
    """Has a node end, and end its processes, where the tests are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@dataclass
class Node:
    """One node: ``ray start --block``, and what that has started."""

    process: subprocess.Popen[bytes]

    def members(self) -> list[psutil.Process]:
        """All its processes, parents first."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Ends the node as a machine that loses its power does: all at once, by SIGKILL."""
        members = self.members()
        for each in members:
            with suppress(psutil.NoSuchProcess):
                each.suspend()  # so that none sees another end
        for each in members:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()

    def workers(self, doing: str = "MapWorker") -> list[psutil.Process]:
        """Processes of the node that run actors of Ray Data."""
        found = []
        for each in self.members():
            with suppress(psutil.Error):
                if doing in " ".join(each.cmdline()):
                    found.append(each)
        return found


@dataclass
class RayCluster:
    """A head and other nodes.

    Args:
        cpus: Of each node, by Ray's count, in order; the first is the head.
    """

    cpus: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)

    def __enter__(self) -> RayCluster:
        self.port, self.client_port = free_ports(2, HEAD)
        # Short, as the paths of sockets may have 107 letters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        try:
            self.add(self.cpus[0])
            for cpus in self.cpus[1:]:
                self.add(cpus)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Of the head, for ``--on``."""
        return f"{HEAD}:{self.port}"

    @property
    def client_address(self) -> str:
        """Of its client server, for ``--on``."""
        return f"ray://{HEAD}:{self.client_port}"

    def add(self, cpus: int) -> Node:
        """Starts a node, and waits until it is there."""
        script = Path(sys.executable).with_name("ray")
        command = [str(script), "start", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address", f"127.0.0.{2 + len(self.nodes)}"]
        command += ["--num-cpus", str(cpus), "--object-store-memory", str(_STORE_BYTES)]
        if self.nodes:
            command += ["--address", self.address]
        else:
            command += ["--head", "--port", str(self.port), "--include-dashboard", "false"]
            command += ["--ray-client-server-port", str(self.client_port)]
            command += ["--temp-dir", str(self.folder)]
        log = (self.folder / f"node-{len(self.nodes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call
            )
        node = Node(process)
        self.nodes.append(node)
        self._wait_for(node, Path(log.name))
        return node

    def _wait_for(self, node: Node, log: Path) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if node.process.poll() is not None:
                break
            if "Ray runtime started" in log.read_text(errors="replace"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"a Ray node did not start: {log.read_text(errors='replace')[-2000:]}")

    def close(self) -> None:
        """Ends all nodes."""
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
