"""What the in-tree guest does with the learner's driver: a text typed comes back, computed by a task in ring 3."""

from __future__ import annotations

from collections.abc import Iterator

from tutorials.tutor.world import NotBorn, World

STORY = ("minivm", "run", "--fail", "KVM_RUN=EIO")


def observe(world: World) -> Iterator[tuple[str, object]]:
    kernel = str(world.kernel())

    def run(typed: str) -> tuple[str, int]:
        done = world.run("minivm", "run", kernel, "--timeout", world.patience, input=typed)
        if done.returncode == 124:
            last = (done.stdout.replace("\0", "").strip().splitlines() or ["nothing"])[-1]
            raise NotBorn(f"the guest hangs; its last line: {last[:100]}")
        return done.stdout, done.returncode

    status, text, long = world.number("status", 3, 100), world.secret("text", 12), world.secret("long", 60) * 3
    said, ended = run(f"{text}\n{long}\nexit {status}\n")
    yield "greeting", said.startswith("Hello from the minivm guest")
    yield "backwards", f"backwards: {text[::-1]}" in said
    yield "long-line", f"backwards: {long[::-1]}" in said
    yield "status", ended == status
    said, ended = run(f"{text}\n")  # and no more: the carrier drops
    yield "end-of-input", ended
    yield "tasks", [f"task {number}: step 3" in said for number in (1, 2)]
