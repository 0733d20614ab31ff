"""The OCI runtime: `minirt oci` and `minirt-oci`, which engines call as they call runc.

config.json becomes a plan in minirt.oci; here is what surrounds it: words on the command line, a container's state
between two commands, hooks, terminals, and the end. May import minirt.oci, minirt.plan, minirt.linux, minirt.terminal and
minirt.documents; nothing heavy at the top of a file, as an engine starts this four times in a container's life. Read:

    command.py   the commands and their flags; errors and --log
    flags.py     flags as runc's callers write them; usage.py: help
    container.py a container's directory: state, lock, what its status is
    birth.py     from config.json to a process, and what is done at each barrier
    create.py    create, run
    starting.py  start
    joining.py   exec
    ending.py    kill, delete
    hooks.py     hooks, on the host and inside; hook.py: one of them
    console.py   the terminal: to a console socket, or to ours
    listing.py   state, list, ps
    limits.py    pause, resume, update, events
    scope.py     --systemd-cgroup: the group is a scope of systemd's
    checkpoint.py, restore.py   by CRIU; saved.py is what they have in common
    undo.py      what is to be undone if something fails
"""
