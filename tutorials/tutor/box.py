"""A container that waits to be looked at: what the kernel says of its first process."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

    from tutorials.tutor.host import Host

__all__ = ["Box"]


class Box:
    """A container that waits to be looked at.

    Args:
        host: as whose processes it is looked at.
        process: the command that has started it.

    Attributes:
        lines: what its script printed.
        pid: of its first process, as the host counts; "" where it has none of its own.
    """

    def __init__(self, host: Host, process: subprocess.Popen[str]) -> None:
        self.host, self.process = host, process
        self.lines: list[str] = []
        self.pid = ""

    def find(self) -> None:
        """Look for the program: the command's first child."""
        self.pid = self.host.first_child(self.host.pid if self.host.sandboxed else str(self.process.pid))

    @property
    def said(self) -> str:
        """All that its script printed."""
        return "\n".join(self.lines).strip()

    def read(self, name: str) -> str:
        """Return a file of /proc/PID."""
        return self.host.read(f"{self.pid}/{name}")

    def namespace(self, kind: str) -> str:
        """Say whose namespace of a kind it is in: "its own" or "the host's"."""
        mine = self.host.link(f"{self.host.pid}/ns/{kind}")
        return "the host's" if self.host.link(f"{self.pid}/ns/{kind}") == mine else "its own"

    def mountinfo(self) -> dict[str, list[str]]:
        """Return its mounts: mount point -> the words of the last line for it."""
        return {line.split()[4]: line.split() for line in self.read("mountinfo").splitlines()}

    def propagation(self, point: str) -> str:
        """Say who hears of what is mounted there: private, shared, slave, shared and slave."""
        words = self.mountinfo().get(point, ["-"])
        fields = words[6 : words.index("-")] if "-" in words[6:] else []
        kinds = [{"shared": "shared", "master": "slave"}.get(field.split(":")[0], field) for field in fields]
        return " and ".join(kinds) or "private"

    def root_is_the_namespaces(self) -> str:
        """Compare what the program calls / with the root of its mount namespace, and what covers that."""
        status = self.host.stat(f"{self.pid}/root/.")
        seen = self.host.enter(self.pid, "mnt", "stat", "-c", "%d:%i", "/")
        same = seen == f"{status.st_dev}:{status.st_ino}"
        return "the root of its mount namespace" if same else "another directory than the root of its mount namespace"
