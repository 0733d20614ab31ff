"""Containers as a person thinks of them: run one, with docker's words for what it may have.

May import minirt.oci, minirt.image, minirt.plan and minirt.linux. Read in this order:

    options.py    everything that `run` can be asked for, with its default
    values.py     docker's ways to write a size, a mount, a limit
    spec.py       options and an image's configuration -> config.json
    container.py  a container's directory: made, found, removed
    owner.py      ... and whose it is
    gc.py         what a killed minirt leaves
    run.py        all of it together, with minirt.terminal to stay with it
"""
