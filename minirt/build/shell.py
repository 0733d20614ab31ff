"""`--debug-shell`: a shell in the container that the failed step would have had, upon its last good layer."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.build import Build
    from minirt.build.stage import StepFailed

__all__ = ["open_shell"]


def open_shell(build: Build, failure: StepFailed) -> int:
    """Run a shell there, at the terminal if there is one; its changes are lost. Returns its exit status. Raises MinirtError."""
    from minirt.engine.options import RunOptions
    from minirt.engine.run import run

    state = failure.state
    if not state.layers:
        print("minirt: no shell: the stage is still empty", file=sys.stderr)
        return 1
    state.document.setdefault("created", build.created())
    with build.store.adding():
        image = build.store.image(build.store.add_image(state.finished(), state.layers))
    terminal = sys.stdin.isatty()
    print(f"minirt: a shell where {build.name}:{failure.line} failed; exit ends it", file=sys.stderr)
    env = [f"{name}={value}" for name, value in state.scope.for_run(state.env).items()]
    options = RunOptions(
        image.id, [], entrypoint=state.shell[0], env=env, network=build.options.network, rm=True, interactive=True, tty=terminal,
    )  # fmt: skip
    return run(options, image)
