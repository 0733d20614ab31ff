"""A container's image as a machine: its layers become a root disk, its configuration the program that pid 1 runs.

May import minirt.image (the store), minirt.plan and, in command.py alone, minirt.engine: what an image's configuration
and docker's words mean is said there once. Read first: root_disk.py, then command.py; csrc/agent is the pid 1.
"""
