"""`minirt graph`: the machine's containers as a picture of what the kernel says of them.

May import minirt.engine, minirt.network and minirt.linux. Read in this order:

    facts.py    what is asked of the kernel: /proc, cgroup files, netlink, nft
    text.py     the same for a terminal
    svg.py      the same as a picture
"""
