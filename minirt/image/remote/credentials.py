"""Names and passwords of registries: docker's config.json, podman's auth.json, and the helpers that they name.

The files are those of containers-auth.json(5) and of docker login's reference ("Credential stores"). A helper is a
program, `docker-credential-NAME get`, which reads a registry's name and writes a JSON object
(github.com/docker/docker-credential-helpers, README).
"""

from __future__ import annotations

import os

from minirt.image.remote.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Credentials", "erase", "find", "store"]

HUB = "https://index.docker.io/v1/"  # what config.json calls docker.io
HELPER_TIME = 30  # seconds


class Credentials:
    """A name and a password, or an identity token: a refresh token of OAuth 2 (distribution, "Token Authentication")."""

    __slots__ = ("password", "token", "user")

    def __init__(self, user: str = "", password: str = "", token: str = "") -> None:
        self.user = user
        self.password = password
        self.token = token

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        import base64

        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def config_path() -> str:
    """Return the path of docker's config.json, which `login` writes."""
    return os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")


def _paths() -> list[str]:
    """Return the files in which credentials may be, in the order in which they count."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [
        *filter(None, [os.environ.get("REGISTRY_AUTH_FILE")]),
        config_path(),
        f"{runtime}/containers/auth.json",
        "/run/containers/0/auth.json",
        os.path.expanduser("~/.config/containers/auth.json"),
    ]


def find(registry: str, repository: str = "") -> Credentials | None:
    """Return the credentials for a repository, or None. Raises RegistryError for a file or helper that cannot be used."""
    for path in _paths():
        found = _in_file(_read(path), registry, repository)
        if found is not None:
            return found
    return None


def _read(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path, encoding="utf-8") as stream:
            config = json.load(stream)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RegistryError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(config, dict):
        raise RegistryError(f"{path} is not a JSON object")
    for key, kind in {"auths": dict, "credHelpers": dict, "credsStore": str}.items():
        if not isinstance(config.get(key) or kind(), kind):
            raise RegistryError(f"{path}: {key} is no {'object' if kind is dict else 'text'}")
    return config


def _in_file(config: dict[str, Any], registry: str, repository: str) -> Credentials | None:
    for key in _keys(registry, repository):
        helper = (config.get("credHelpers") or {}).get(key)
        if helper and (found := _from_helper(helper, key)) is not None:
            return found
        entry = (config.get("auths") or {}).get(key)
        if entry and (found := _from_entry(entry, key)) is not None:
            return found
    if config.get("credsStore"):
        return _from_helper(config["credsStore"], _server(registry))
    return None


def _server(registry: str) -> str:
    return HUB if registry == "docker.io" else registry


def _keys(registry: str, repository: str) -> list[str]:
    """Return what an entry may be called: the most specific first (containers-auth.json(5))."""
    parts = repository.split("/") if repository else []
    keys = ["/".join([registry, *parts[:count]]) for count in range(len(parts), -1, -1)]
    if registry == "docker.io":
        return [*keys, HUB, "index.docker.io", "registry-1.docker.io"]
    return [*keys, f"https://{registry}", f"http://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/"]


def _from_entry(entry: Any, key: str) -> Credentials | None:
    import base64
    import binascii

    if not isinstance(entry, dict):
        return None
    user, password, token = (str(entry.get(name) or "") for name in ("username", "password", "identitytoken"))
    if entry.get("auth"):
        try:
            text = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, ValueError, TypeError):
            raise RegistryError(f"the credentials for {key} are not base64 of NAME:PASSWORD") from None
        user, _, password = text.partition(":")
        password = password.rstrip("\0")  # docker pads
    return Credentials(user, password, token) if user or token else None


def _from_helper(helper: str, server: str) -> Credentials | None:
    import json

    text = _run(helper, "get", server)
    if text is None:
        return None
    try:
        answer = json.loads(text)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"docker-credential-{helper} printed no Username and Secret for {server}") from None
    return Credentials(token=secret) if user == "<token>" else Credentials(user, secret)


def _run(helper: str, verb: str, text: str) -> str | None:
    """Run a helper. Returns what it printed; None where it has no such credentials. Raises RegistryError."""
    import subprocess

    if not isinstance(helper, str) or "/" in helper:
        raise RegistryError(f"{helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text, capture_output=True, text=True, timeout=HELPER_TIME)
    except FileNotFoundError:
        raise RegistryError(f"the credential helper {program} is not in PATH: {config_path()} asks for it") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"{program} {verb} failed: {error}") from None
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout + done.stderr).strip()
    if "not found" in said:  # "credentials not found in native keychain": how a helper says no
        return None
    raise RegistryError(f"{program} {verb} failed: {said[:200]}")


def store(registry: str, credentials: Credentials) -> str:
    """Keep credentials, in the helper that config.json names or in config.json itself. Returns where. Raises RegistryError."""
    import base64
    import json

    server = _server(registry)
    if helper := _keeper(registry):
        document = {"ServerURL": server, "Username": credentials.user, "Secret": credentials.password}
        _run(helper, "store", json.dumps(document))
        return f"docker-credential-{helper}"
    auth = base64.b64encode(f"{credentials.user}:{credentials.password}".encode()).decode()

    def keep(config: dict[str, Any]) -> None:
        config.setdefault("auths", {})[server] = {"auth": auth}

    _change(keep)
    return config_path()


def erase(registry: str) -> bool:
    """Forget credentials, by all names that `find` knows the registry by. Returns whether there were any in the file.

    Raises RegistryError.
    """
    if helper := _keeper(registry):
        _run(helper, "erase", _server(registry))
        return True
    auths = _read(config_path()).get("auths") or {}
    known = [key for key in _keys(registry, "") if key in auths]

    def forget(config: dict[str, Any]) -> None:
        for key in known:
            (config.get("auths") or {}).pop(key, None)

    if known:
        _change(forget)
    return bool(known)


def _keeper(registry: str) -> str:
    """Return the helper that keeps a registry's credentials, or ""."""
    config = _read(config_path())
    return str((config.get("credHelpers") or {}).get(registry) or config.get("credsStore") or "")


def _change(change: Callable[[dict[str, Any]], None]) -> None:
    """Replace config.json whole, for its owner's eyes only; what others change at the same time is kept."""
    import json

    from minirt.image.errors import Attempt
    from minirt.image.index import replace_file
    from minirt.image.scratch import Lock

    path = os.path.realpath(config_path())  # it may be a link, to a directory that is kept under version control
    with Attempt(f"write {path}"):
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with Lock(path + ".lock"):
            config = _read(path)
            change(config)
            replace_file(path, json.dumps(config, indent=1).encode() + b"\n")
