"""Networks of containers: a bridge each, an address for each container, rules for what may reach what, names.

    container's eth0 ══veth══ bridge ──routing, nftables──▶ the host's interfaces

May import minirt.errors, minirt.paths and minirt.linux; pyroute2 inside the functions that need it, as it takes a tenth of a
second. Read in this order:

    addresses.py  which subnet, which address: arithmetic
    ports.py      what -p says
    store.py      networks and who has which address, in SQLite
    bridge.py     links: bridges, veth pairs, what is set inside
    firewall.py   all of it as one nftables table, written anew at each change
    names.py      /etc/hosts of all who share a network
    connect.py    the four together: a container joins, a container leaves
"""
