"""Images that are somewhere else: a client of distribution-spec 1.1.1.

May import: minirt.image and urllib3 (an extra, `registry`), inside functions. Nothing imports this room at its top, as
`minirt run` of an image that is here needs none of it.

Read in this order:

    errors.py       what can go wrong
    http.py         a request, tried again where that helps
    credentials.py  names and passwords: docker's and podman's files, helpers
    auth.py         Basic, and Bearer tokens
    repository.py   the requests of the specification, a method each
    registries.py   registries.conf: short names, mirrors, who is insecure
    registry.py     the four together: `connect(place)`
    platform.py     which manifest of an index
    together.py     several threads, of which one fails
    fetch.py        one blob, resumed
    layers.py       several at a time, unpacked meanwhile
    pull.py         an image
    upload.py       one blob the other way
    push.py         an image
    login.py        credentials tried, then kept
    search.py       what a registry has
"""
