"""A container's files from outside, running or not: what `cp` and the API's archive calls are made of.

Read in this order:

    root.py      a container's root as a descriptor: of one that runs its own, of another one mounted for us alone
    pack.py      what is at a path there, as a tar
    unpack.py    a tar into a directory there, or of the host
    copy.py      docker cp's rules of which name means what

A container may change its files while we look at them. So nothing is looked at by path and then used by path: a path is
resolved by the kernel inside the root (openat2, RESOLVE_IN_ROOT) to a descriptor, and below that no link is followed at all.
"""
