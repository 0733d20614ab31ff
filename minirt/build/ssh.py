"""`RUN --mount=type=ssh`: an agent that signs for a step, whose keys the step never sees.

    --ssh default                 the agent that $SSH_AUTH_SOCK names
    --ssh ID=/path/to/socket      another agent
    --ssh ID=key1,key2            an agent of the build's own, with these keys, that ends with it (ssh-agent, ssh-add)

In the container is a socket of ours: what comes through it is passed on to the agent (draft-ietf-sshm-ssh-agent: requests and
answers, one after the other). An agent takes only its own user's requests (SO_PEERCRED, man 7 unix), and the step may be
another; so it is us who ask.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import threading

from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

__all__ = ["agent_of", "listen", "parse_ssh"]

PIECE = 1 << 16


def parse_ssh(items: list[str], environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Read the values of --ssh. Returns by id a socket, or keys. Raises BuildError."""
    made = {}
    for item in items:
        name, equals, value = item.partition("=")
        found = value.split(",") if equals else [environ.get("SSH_AUTH_SOCK", "")]
        if not name or name in made:
            raise BuildError(f"--ssh {item}: it is written default, ID=SOCKET or ID=KEY[,KEY], each ID once")
        if not all(found):
            raise BuildError(f"--ssh {item}: " + ("a path is empty" if equals else "there is no agent: SSH_AUTH_SOCK is not set"))
        for path in found:
            if not os.path.exists(path):
                raise BuildError(f"--ssh {item}: {path}: there is no such file")
        if len(found) > 1 and any(map(_is_socket, found)):
            raise BuildError(f"--ssh {item}: an agent's socket stands alone")
        made[name] = [os.path.abspath(path) for path in found]
    return made


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.stat(path).st_mode)


def agent_of(paths: list[str], undo: ExitStack) -> str:
    """Return the socket of an agent: the one that is meant, or that of a new one with these keys, which ends with `undo`.

    The new one runs for as long as the program that it began does, and that waits for our pipe to end: so it ends with us,
    even when we are killed. Raises BuildError.
    """
    if _is_socket(paths[0]):
        return paths[0]
    script = 'ssh-add -q "$@" </dev/null 2>&1 && echo "agent $SSH_AUTH_SOCK" && cat; ssh-agent -k >/dev/null'
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    try:
        child = subprocess.Popen(["ssh-agent", "sh", "-c", script, "sh", *paths], env=environment, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)  # fmt: skip
    except FileNotFoundError:
        raise BuildError("--ssh with keys needs ssh-agent (apt-get install openssh-client)") from None
    undo.callback(child.wait)
    assert child.stdin is not None and child.stdout is not None
    undo.callback(child.stdout.close)
    undo.callback(child.stdin.close)
    said = ""
    for line in child.stdout:  # ssh-add may have something to say before
        if line.startswith("agent "):
            return line.removeprefix("agent ").strip()
        said = said or line.strip()
    raise BuildError(f"--ssh: {said or 'ssh-agent did not start'} (a key with a passphrase: add it to an agent, and name that)")


def listen(folder: str, name: str, agent: str, owner: tuple[int, int], mode: int, undo: ExitStack) -> str:
    """Make a socket that leads to an agent until `undo` is closed. Returns its path.

    Args: folder and name, where; agent, the agent's socket; owner and mode, of ours. Raises OSError.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    undo.callback(server.close)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{fd}/{name}"  # a socket's path has 107 bytes at most (man 7 unix)
        server.bind(short)
        if os.geteuid() == 0:
            os.chown(short, *owner)
        os.chmod(short, mode)
    finally:
        os.close(fd)
    server.listen()
    stop, stopper = os.pipe2(os.O_CLOEXEC)
    thread = threading.Thread(target=_serve, args=(server, agent, stop), daemon=True)
    thread.start()
    undo.callback(os.close, stop)
    undo.callback(thread.join)
    undo.callback(os.close, stopper)
    return os.path.join(folder, name)


def _serve(server: socket.socket, agent: str, stop: int) -> None:
    """Pass on what comes, until nobody holds the other end of a pipe."""
    while True:
        if stop in _readable(server.fileno(), stop):
            return
        client = server.accept()[0]
        threading.Thread(target=_pass, args=(client, agent, stop), daemon=True).start()


def _pass(client: socket.socket, agent: str, stop: int) -> None:
    with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
        try:
            far.connect(agent)
            other = {client.fileno(): far, far.fileno(): client}
            while True:
                for fd in _readable(*other, stop):
                    data = os.read(fd, PIECE) if fd != stop else b""
                    if not data:
                        return
                    other[fd].sendall(data)
        except OSError:  # one of them is gone, and so is what they talked about
            return


def _readable(*fds: int) -> list[int]:
    """Wait until something can be read from one of these. Returns those. (man 2 poll: select takes no fd beyond 1023.)"""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll()]
