"""The lab: a disposable Linux machine with cgroup v2 and /dev/kvm, for hosts without them.

It is a QEMU virtual machine that boots in seconds, runs one command (or a shell) in a copy of
the repository, hands back output and exit status, and is gone. Nothing on the host changes.

The room imports the standard library only, and nothing of minirt or minivm: it must run before
anything is built. Read README.md, then run, __main__.py, session.py, machine.py, payload.py,
init, session.sh; image.py and build-image make the disk, once.
"""
