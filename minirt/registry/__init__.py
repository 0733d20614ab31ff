"""A registry: distribution-spec 1.1.1, served from a directory, on the blobs that minirt/image has too.

May import: minirt.image (blobs, digest, scratch, index) and minirt.errors; aiohttp, bcrypt, PyJWT and jinja2, which are the
extra `serve`. Never the engine, oci or cli.

Read in this order, the registry first, then how it is spoken to:

    errors.py        what a registry says when it cannot
    names.py         what may stand in a URL
    links.py         a set of digests as a directory
    tags.py          names for manifests
    manifest.py      a manifest that was pushed, checked
    repository.py    one repository: links, tags, referrers
    uploads.py       a blob that is arriving
    registry.py      all repositories, one content
    gc.py            what nothing leads to goes, while others push

    service.py       what handlers share
    sendfile.py      a file as an answer
    pull.py          GET and HEAD of blobs and manifests
    push.py          uploads: whole, in chunks, from another repository
    push_manifest.py
    paging.py, discover.py    tags, catalog, referrers
    manage.py        deletion
    watched.py       files that are read again when they change
    users.py, rules.py, tokens.py, access.py    who may do what
    upstream.py, download.py, proxy.py          a cache of another registry
    describe.py, search.py, pages.py            search, and pages for people
    idle.py          connections that nobody moves
    server.py        the application
    workers.py       several processes of it
"""
