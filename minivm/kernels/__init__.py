"""Linux kernels by name: taken out of the distribution's packages once, kept in the cache; or out of a disk's /boot.

May import: minivm.errors, minivm.boot, minivm.machine (what a qcow2 file stands on), and of minirt its paths and its way to make
things under another name (minirt.image.scratch). Read first: cache.py (what a kept kernel is), then debian.py (how one is
fetched), resolve.py (what a word after --kernel means), inside.py (the kernel that is in a disk).
"""
