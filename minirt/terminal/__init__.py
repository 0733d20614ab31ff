"""The foreground: a person's terminal, signals and a container, until one of them ends.

May import minirt.errors. Both the engine and the OCI runtime stay with a container by these. Read in this order:

    wait.py         signals passed on, the container's end, its exit status
    tty.py          a terminal's size and raw mode
    detach_keys.py  the keys that leave a container alone
    attach.py       between the user's terminal and the container's pty
    client.py       between the user's terminal and a detached container's monitor
"""
