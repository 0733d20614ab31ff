"""Who sent a request, and whether it may: one gate before all handlers.

A password comes as Basic, a token as Bearer (RFC 7617, RFC 6750). Without either the sender is nobody in particular,
who may do what rules for "*" say. Who lacks a right gets 401 while it may still show a password, 403 when it has.
"""

from __future__ import annotations

import asyncio
import base64
import binascii

from aiohttp import web

from minirt.registry.errors import Refusal
from minirt.registry.rules import ACTIONS, ALL, USERS, Rules
from minirt.registry.service import work
from minirt.registry.tokens import LIFETIME, SERVICE, Tokens, parse_scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.registry.tokens import Grant
    from minirt.registry.users import Users

__all__ = ["Access"]

_PUSH = ("POST", "PUT", "PATCH")


class Access:
    """The gate.

    Args: users, or None where nobody has a password; rules, or None for all rights to all of them; tokens, or None
    where a password is to come with each request.
    """

    def __init__(self, users: Users | None = None, rules: Rules | None = None, tokens: Tokens | None = None) -> None:
        self.users = users
        self.rules = rules or Rules(rules=[ALL if users is None else USERS])
        self.tokens = tokens
        self._slow = asyncio.Semaphore(2)  # passwords compared at once: each keeps a processor busy for 0.1 s

    async def enter(self, request: web.Request) -> None:
        """Find out who sent a request, and let it pass. Raises Refusal (UNAUTHORIZED, DENIED)."""
        await self._identify(request)
        name = request.match_info.get("name")
        if request.path in ("/v2/", "/v2"):
            if not request["user"] and "granted" not in request and (self.tokens or not self.rules.open_to_all):
                raise self._unauthorized(request, "")
        elif name is not None:
            action = action_of(request)
            if not self.may(request, action, name):
                raise self._refusal(request, action, name)

    async def _identify(self, request: web.Request) -> None:
        request["user"] = ""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.tokens is not None:
            found = self.tokens.read(text.strip())
            if found is None:
                raise self._unauthorized(request, "the token is not valid, or not any more", error="invalid_token")
            request["user"], request["granted"] = found
        elif scheme.lower() == "basic" and self.users is not None:
            request["user"] = await self.check(request, *_credentials(text))

    async def check(self, request: web.Request, name: str, password: str) -> str:
        """Return the user's name, if the password is right. Raises Refusal (UNAUTHORIZED)."""
        assert self.users is not None
        if not self.users.known(name, password):
            async with self._slow:
                if not await work(self.users.check, name, password):
                    raise self._unauthorized(request, "wrong user or password")
        return name

    def may(self, request: web.Request, action: str, name: str) -> bool:
        """Return whether the sender of a request may do something with a repository."""
        granted = request.get("granted")
        # Who names a repository needs a token for it; a list of many needs no scope of each.
        if granted is not None and "name" in request.match_info and not _grants(granted, action, name):
            return False
        return self.rules.may(request["user"], action, name)

    def _refusal(self, request: web.Request, action: str, name: str) -> Refusal:
        scope = f"repository:{name}:{'pull,push' if action == 'push' else action}"
        if self.users is None or (request["user"] and "granted" not in request):
            return Refusal("DENIED", f"{request['user'] or 'nobody in particular'} may not {action} {name!r}")
        if "granted" in request and self.rules.may(request["user"], action, name):
            return self._unauthorized(request, "the token is for something else", scope, "insufficient_scope")
        if "granted" in request and request["user"]:
            return Refusal("DENIED", f"{request['user']} may not {action} {name!r}")
        return self._unauthorized(request, "", scope, "insufficient_scope" if "granted" in request else "")

    def _unauthorized(self, request: web.Request, reason: str, scope: str = "", error: str = "") -> Refusal:
        """Return a 401 that says how to do better. A browser is asked for a password, whatever clients use.

        Args: error, what is wrong with a token, in the words of RFC 6750 section 3.1: docker gives up where it reads
        `insufficient_scope`, and would else try again for a minute.
        """
        challenge = 'Basic realm="registry"'
        if self.tokens is not None and request.path.startswith("/v2"):
            # Behind a server that ends TLS for us, clients must be told https; the header misleads only who sends it.
            scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else request.scheme
            realm = f"{scheme}://{request.host}/token"
            challenge = f'Bearer realm="{realm}",service="{SERVICE}"'
            challenge += (f',scope="{scope}"' if scope else "") + (f',error="{error}"' if error else "")
        return Refusal("UNAUTHORIZED", reason, headers={"WWW-Authenticate": challenge})

    async def token(self, request: web.Request) -> web.Response:
        """Answer who asks for a token, by GET with a password in the header, or by POST with one in a form."""
        assert self.tokens is not None
        query = request.query
        scopes = query.getall("scope", [])
        if request.method == "POST":
            form = {key: str(value) for key, value in (await request.post()).items()}
            if form.get("grant_type") != "password":
                raise Refusal("UNSUPPORTED", "only the grant of type password is known", status=400)
            request["user"] = await self.check(request, form.get("username", ""), form.get("password", ""))
            scopes = [form.get("scope", "")]
        access = [grant for scope in scopes for grant in parse_scope(scope)]
        for grant in access:
            wanted = ACTIONS if "*" in grant["actions"] else grant["actions"]
            mine = [action for action in wanted if self.rules.may(request["user"], action, grant["name"])]
            grant["actions"] = mine if grant["type"] == "repository" else []
        token = self.tokens.make(request["user"], access)
        return web.json_response({"token": token, "access_token": token, "expires_in": LIFETIME})

    def routes(self) -> list[web.RouteDef]:
        """Return what this file answers."""
        return [web.get("/token", self.token), web.post("/token", self.token)] if self.tokens is not None else []


def _grants(granted: list[Grant], action: str, name: str) -> bool:
    mine = [grant["actions"] for grant in granted if (grant["type"], grant["name"]) == ("repository", name)]
    return any(action in actions for actions in mine)


def action_of(request: web.Request) -> str:
    """Return what a request does to the repository that its URL names. All of an upload is part of a push."""
    if request.method in _PUSH or "upload" in request.match_info:
        return "push"
    return "delete" if request.method == "DELETE" else "pull"


def _credentials(text: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password
