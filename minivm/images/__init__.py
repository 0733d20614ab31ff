"""A container's image as a machine: its layers become a root disk, its configuration the program that pid 1 runs.

May import minivm.machine, minirt.image (the store), minirt.plan, minirt.oci and minirt.linux (an overlay of its layers) and, in
command.py alone, minirt.engine: what an image's configuration and docker's words mean is said there once. Read first:
root_disk.py, then command.py; csrc/agent is the pid 1. Beside it seed.py, with given.py: what cloud-init
reads in somebody else's disk.
"""
