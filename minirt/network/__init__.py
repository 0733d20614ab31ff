"""Networks of containers: a bridge each, an address for each container, rules for what may reach what, names.

    container's eth0 ══veth══ bridge ──routing, nftables──▶ the host's interfaces

May import minirt.errors, minirt.paths, minirt.state, minirt.linux and minirt.plan; pyroute2 inside the functions that need it, as
it takes a tenth of a second. Read in this order:

    addresses.py  which subnet, which address: arithmetic
    ports.py      what -p says
    schema.py     the tables
    store.py      networks and who has which address, in SQLite
    bridge.py     links: bridges, veth pairs, what is set inside, a netlink message at a time
    firewall.py   what may reach what as one nftables table, written anew when it changes
    dns.py        which question gets which answer
    held.py       a process known by a file that it has locked
    keeper.py     the process that answers, one a network: started, found, ended
    keeping.py    what it does
    flows.py      ... with datagrams
    relay.py      ... and with connections
    names.py      /etc/hosts and /etc/resolv.conf
    manage.py     a network is made, is removed
    connect.py    all of it together: a container joins, a container leaves
    describe.py   the same in docker's words

and without root:

    pasta.py      a network for one container
    rootless.py   networks with names, in a namespace of the user's
    publish.py    ... and their ports
"""
