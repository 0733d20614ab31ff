"""Images from Dockerfiles.

May import: minirt.engine (a RUN is a container), minirt.image, minirt.oci, minirt.plan and minirt.linux. Never cli. Read
in this order:

    lines.py         a Dockerfile's text -> instructions, with their lines
    words.py         quotes, escapes, $VARIABLES
    instructions.py  what each instruction may say
    mounts.py        ... and RUN --mount
    stages.py        instructions -> stages
    scope.py         which variables there are where
    state.py         what a stage has become so far
    configure.py     instructions that change the configuration alone
    origin.py, git.py   where the context comes from
    globs.py, context.py, fingerprint.py   what is copied, what is left out, and what makes it the same
    changes.py       entries of a layer, above what lies below
    copying.py, modes.py, unpacking.py, fetch.py   COPY and ADD
    run.py, attach.py, ssh.py, stubs.py    RUN
    layering.py      a layer into the store
    steps.py         RUN, COPY, ADD, WORKDIR: found, or done
    bases.py         the images that stages are built on
    stage.py         one stage
    build.py         all of them, each in a thread of its own
    prune.py         what builds keep, removed
    progress.py, output.py, squash.py, shell.py   what is told, what else can become of it

Nothing here is imported by `minirt run`.
"""
