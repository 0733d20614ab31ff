"""Steps that give a layer: RUN, COPY, ADD, WORKDIR. Each is looked up by its fingerprint before it is done."""

from __future__ import annotations

import os
from contextlib import ExitStack

from minirt.build.attach import Attached
from minirt.build.configure import resolve_workdir
from minirt.build.errors import BuildError
from minirt.build.git import is_repository
from minirt.build.instructions import command, flag, paths
from minirt.build.layering import add_layer
from minirt.build.modes import parse_mode
from minirt.build.mounts import parse_mount
from minirt.build.words import expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minirt.build.copying import Item
    from minirt.build.lines import Instruction
    from minirt.build.options import BuildOptions
    from minirt.build.progress import Told
    from minirt.build.stage import Running
    from minirt.build.state import State

__all__ = ["LAYERED"]

CACHED, DONE = "cached", "done"  # what a step says to progress


def _found(running: Running, key: str, created_by: str) -> bool:
    """Take a step over that was done before. Returns whether there was one."""
    step = None if running.build.options.no_cache else running.state.store.steps.find(key)
    if step is None:
        return False
    running.state.add_layer(step.layers[-1], step.diff_ids[-1], created_by, step.created)
    return True


# -- RUN


def run(running: Running, instruction: Instruction, told: Told) -> str:
    """Run a command in a container upon the layers so far."""
    state, build = running.state, running.build
    args, script = _run_args(state, instruction)
    env = state.scope.for_run(state.env)
    network = flag(instruction, "network", "default")
    network = build.options.network if network == "default" else network
    insecure = flag(instruction, "security") == "insecure"
    _check_allowed(build.options, network, insecure)
    texts = [value or "" for key, value in instruction.flags if key == "mount"]
    mounts = [_attached(running, instruction, text, number) for number, text in enumerate(texts)]
    mounted = [mount.fingerprint() for mount in mounts]
    key = state.fingerprint("RUN", args, script, sorted(env.items()), network, mounted, build.epoch, *["insecure"] * insecure)
    shown = " ".join(args[2:] if args[:2] == ["/bin/sh", "-c"] else args)
    created_by = "RUN " + ("/bin/sh -c " if args[:2] == ["/bin/sh", "-c"] else "") + shown
    if _found(running, key, created_by):
        return CACHED
    from minirt.build.run import RunStep

    with ExitStack() as undo:
        step = RunStep(state, args, {**state.scope.proxies(), **env}, network, told.say, build.stop, privileged=insecure)
        for mount in mounts:
            mount.add(step, undo)
        if script:
            step.add_script(args[0], script)
        status = step.run(undo)
        if status:
            raise BuildError(f"the command ended with status {status}")
        _layer(running, step.pieces(build.latest), key, created_by)
    return DONE


def _check_allowed(options: BuildOptions, network: str, insecure: bool) -> None:
    """A Dockerfile gets more of the host only from who builds it (docs: "RUN --network", "RUN --security"). Raises BuildError."""
    if network == "host" != options.network and "network.host" not in options.allow:
        raise BuildError("it wants the host's network: `--allow network.host` gives it, `--network host` to every RUN")
    if insecure and "security.insecure" not in options.allow:
        raise BuildError("it wants all rights of root on this host: `--allow security.insecure` gives them")


def _run_args(state: State, instruction: Instruction) -> tuple[list[str], str]:
    """Return what to execute, and the content of the program that it is, where it is a here-document that begins with #!.

    A here-document that is all there is is a script for the shell; else the shell reads it as it would in any script.
    """
    if not instruction.heredocs:
        return command(instruction.text, state.shell), ""
    first = instruction.heredocs[0]
    bare = instruction.text.strip()
    if bare.startswith("<<") and len(bare.split()) == len(instruction.heredocs) == 1:
        if first.content.startswith("#!"):
            return [f"/dev/pipes/{first.name}"], first.content
        return [*state.shell, first.content], ""
    rest = "".join(f"\n{doc.content}{doc.name}" for doc in instruction.heredocs)
    return [*state.shell, instruction.text + rest], ""


def _attached(running: Running, instruction: Instruction, text: str, number: int) -> Attached:
    state, build = running.state, running.build
    mount = Attached.expanded(parse_mount(instruction, text), state.variables, instruction.escape)
    tree = None
    if mount.kind == "bind" or mount.source_stage:
        tree = build.tree(mount.source_stage, running.stage.index) if mount.source_stage else build.context
    return Attached(mount, tree, build.options, state.config.get("WorkingDir") or "/", number)


# -- COPY, ADD


def copy(running: Running, instruction: Instruction, told: Told) -> str:
    """Copy files of the context, of another stage or image, of a URL or a repository, or written in the Dockerfile."""
    state, build = running.state, running.build

    def expanded(text: str) -> str:
        return expand(text, state.variables, instruction.escape)

    sources, destination = paths(instruction)
    destination = _destination(state, expanded(destination))
    items = list(_items(running, instruction, sources, expanded))
    if len(items) > 1 and len(sources) > 1 and not destination.endswith("/"):
        raise BuildError(f"of {len(sources)} sources the destination has to be a directory: {destination}/")
    chown, chmod, link = expanded(flag(instruction, "chown")), expanded(flag(instruction, "chmod")), flag(instruction, "link")
    excluded = [expanded(value or "") for name, value in instruction.flags if name == "exclude"]
    mode, parents = parse_mode(chmod), flag(instruction, "parents") not in ("", "false")
    key = state.fingerprint(
        "COPY", [item.fingerprint() for item in items], destination, chown, chmod, link, excluded, parents, build.epoch
    )  # fmt: skip
    created_by = f"{instruction.name} {' '.join(instruction.source.split()[1:])}"
    if _found(running, key, created_by):
        return CACHED
    from minirt.build.copying import How, find_owner, put_all

    changes = running.changes(empty=link not in ("", "false"))
    with ExitStack() as undo:
        changes.scratch = lambda: running.scratch(undo)
        owner = find_owner(running.view(), chown) if chown else None
        put_all(changes, items, os.fsencode(destination), How(owner, mode, _skipper(excluded), parents))
        _layer(running, changes.pieces(), key, created_by)
    return DONE


def _destination(state: State, text: str) -> str:
    """Return an absolute destination that keeps the slash which makes it a directory."""
    if not text:
        raise BuildError("the destination is empty")
    path = resolve_workdir(state, text)
    return path + "/" if (text.endswith(("/", "/.")) or text in (".", "..")) and path != "/" else path


def _items(
    running: Running, instruction: Instruction, sources: list[str], expanded: Callable[[str], str]
) -> Iterator[Item]:
    """Find what each source means."""
    from minirt.build.copying import Item, find_items

    build = running.build
    where = flag(instruction, "from")
    tree = build.tree(where, running.stage.index) if where else build.context
    adding = instruction.name == "ADD"
    unpack, parents = flag(instruction, "unpack"), flag(instruction, "parents") not in ("", "false")
    documents = {("<<-" if doc.strip else "<<") + doc.name: doc for doc in instruction.heredocs}
    for text in sources:
        doc = documents.get(text.replace('"', "").replace("'", "")) if "<<" in text else None
        if doc is not None:
            content = doc.content
            if doc.expand:
                content = expand(content, running.state.variables, instruction.escape, keep_quotes=True)
            yield Item(doc.name.encode(), data=content.encode("utf-8", "surrogateescape"))
            continue
        source = expanded(text)
        if adding and is_repository(source):
            from minirt.build.fetch import fetch_repository

            commit, keep = expanded(flag(instruction, "checksum")), flag(instruction, "keep-git-dir") not in ("", "false")
            yield fetch_repository(source, commit, keep, *running.scratch_for_build(), build.check_stop)
        elif adding and source.startswith(("http://", "https://")):
            from minirt.build.fetch import fetch

            yield fetch(source, expanded(flag(instruction, "checksum")), unpack == "true", running.scratch_for_build()[0])
        elif flag(instruction, "checksum"):
            raise BuildError(f"{source}: --checksum is for URLs and git repositories")
        else:
            yield from find_items(tree, source, archives=adding and unpack != "false", parents=parents)


def _skipper(patterns: list[str]) -> Callable[[bytes], bool]:
    from minirt.build.globs import Ignored

    ignored = Ignored("\n".join(patterns))
    return lambda path: ignored(os.fsdecode(path))


# -- WORKDIR


def workdir(running: Running, instruction: Instruction, told: Told) -> str:
    """Set the working directory, and make it where it is missing, for the user that is set."""
    state, build = running.state, running.build
    from minirt.build.copying import find_owner

    text = expand(instruction.text, state.variables, instruction.escape)
    if not text:
        raise BuildError("WORKDIR: the path is empty")
    path = resolve_workdir(state, text)
    changes = running.changes()
    user = state.config.get("User") or ""
    changes.make_directories(os.fsencode(path), find_owner(running.view(), user) if user else (0, 0))
    state.config["WorkingDir"] = path
    if not len(changes):
        state.note(f"WORKDIR {path}", state.created or build.created(), empty=True)
        return DONE
    key = state.fingerprint("WORKDIR", path, build.epoch)
    if _found(running, key, f"WORKDIR {path}"):
        return CACHED
    _layer(running, changes.pieces(), key, f"WORKDIR {path}")
    return DONE


def _layer(running: Running, pieces: Iterator[bytes], key: str, created_by: str) -> None:
    add_layer(running.state, pieces, key, created_by, running.build.created())


LAYERED: dict[str, Callable[[Running, Instruction, Told], str]] = {"RUN": run, "COPY": copy, "ADD": copy, "WORKDIR": workdir}
