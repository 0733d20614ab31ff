"""Volumes: directories that outlive the containers which use them.

May import minirt.image, minirt.oci, minirt.plan and minirt.linux. Read in this order:

    store.py    a volume's directory: made, found, removed; safe against a kill at any point
    fill.py     what the image has at a volume's place, as the first content of an empty one
    device.py   a volume that is a mount of something (driver options type, o, device)

Who uses a volume is a matter of containers: minirt/engine/volumes.py.
"""
