"""A machine's control socket: requests on Firecracker's resources, one JSON object a line.

    {"method": "PATCH", "path": "/vm", "body": {"state": "Paused"}}
    {"status": 204}
    {"method": "PUT", "path": "/console", "body": {"replay": true}}
    {"status": 200}                       and from here on the connection is the console

Methods, paths, bodies and statuses are those of Firecracker's HTTP API (firecracker.yaml), so a gateway to that is a
matter of headers. It is not HTTP itself since the process that holds a guest should hold little else: no parser of
headers, no library (http.server would add a third to its memory), and a console needs a connection that becomes a
stream, for which HTTP has only Upgrade.
"""

from __future__ import annotations

import json
import os

from minivm.errors import MinivmError
from minivm.manager import memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.machine.machine import Machine
    from minivm.manager.machines import NamedMachine

    Handler = Callable[[dict[str, Any]], "tuple[int, Any]"]

__all__ = ["LONGEST", "Control"]

LONGEST = 1 << 16  # bytes of a request


class Control:
    """The answers of one machine.

    Args:
        named: its directory.
        document: what it is.
        machine: it.
    """

    def __init__(self, named: NamedMachine, document: dict[str, Any], machine: Machine) -> None:
        self._named, self._document, self._machine = named, document, machine
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/"): self._instance,
            ("GET", "/version"): self._version,
            ("GET", "/vm/config"): lambda body: (200, self._document),
            ("GET", "/machine-config"): lambda body: (200, self._document["machine-config"]),
            ("PATCH", "/vm"): self._change,
            ("PUT", "/actions"): self._act,
            ("PUT", "/dump"): self._dump,
            ("PUT", "/console"): lambda body: (200, None),
            ("GET", "/balloon"): lambda body: (200, memory.config(self._machine)),
            ("PATCH", "/balloon"): self._aim,
            ("GET", "/hotplug/memory"): lambda body: (200, memory.plugged(self._machine)),
            ("PATCH", "/hotplug/memory"): self._plug,
            ("GET", "/balloon/statistics"): lambda body: (200, memory.statistics(self._machine)),
        }

    def answer(self, line: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the response to a request; and the request's body, where the connection becomes the console."""
        try:
            request = json.loads(line)
            method, path, body = request["method"], request["path"], request.get("body") or {}
            handler = self._routes.get((method, path))
            if not isinstance(body, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _fault(400, 'a request is an object: {"method": ..., "path": ..., "body": {...}}'), None
        if handler is None:
            known = path in {path for _, path in self._routes}
            return _fault(405 if known else 404, f"{method} {path}: not implemented"), None
        try:
            status, answer = handler(body)
        except MinivmError as error:
            return _fault(400, str(error)), None
        response = {"status": status} if answer is None else {"status": status, "body": answer}
        return response, body if path == "/console" else None

    def _instance(self, body: dict[str, Any]) -> tuple[int, Any]:
        from minirt import __version__

        state = "Paused" if self._machine.gate.closed else "Running"
        about = {"id": self._named.name, "state": state, "vmm_version": __version__, "app_name": "minivm"}
        return 200, {**about, "pid": os.getpid()}

    def _version(self, body: dict[str, Any]) -> tuple[int, Any]:
        from minirt import __version__

        return 200, {"firecracker_version": __version__}  # the field's name in that API

    def _change(self, body: dict[str, Any]) -> tuple[int, Any]:
        """PATCH /vm: pause or resume."""
        match body.get("state"):
            case "Paused":
                self._machine.gate.close()
            case "Resumed":
                self._machine.gate.open()
            case other:
                raise MinivmError(f"state: must be Paused or Resumed, not {other!r}")
        return 204, None

    def _act(self, body: dict[str, Any]) -> tuple[int, Any]:
        """PUT /actions: what Firecracker sends as ctrl-alt-del is the power button here."""
        action = body.get("action_type")
        if action not in ("SendCtrlAltDel", "PowerButton"):
            raise MinivmError(f"action_type: must be PowerButton or SendCtrlAltDel, not {action!r}")
        if self._machine.gate.closed:
            raise MinivmError("the machine is paused: resume it first")
        self._machine.press_power()
        return 204, None

    def _aim(self, body: dict[str, Any]) -> tuple[int, Any]:
        """PATCH /balloon."""
        memory.aim(self._machine, body)
        return 204, None

    def _plug(self, body: dict[str, Any]) -> tuple[int, Any]:
        """PATCH /hotplug/memory."""
        memory.request(self._machine, body)
        return 204, None

    def _dump(self, body: dict[str, Any]) -> tuple[int, Any]:
        """PUT /dump: memory and registers as an ELF core. (Not in Firecracker's API.)"""
        path = body.get("path")
        if (self._document.get("minivm") or {}).get("jail"):
            raise MinivmError("a machine in a jail cannot write a dump")
        if not isinstance(path, str) or not os.path.isabs(path):
            raise MinivmError(f"path: must be an absolute path, not {path!r}")
        from minivm.machine.dump import dump_running

        return 200, {"written": dump_running(self._machine, path)}


def _fault(status: int, text: str) -> dict[str, Any]:
    return {"status": status, "body": {"fault_message": text}}
