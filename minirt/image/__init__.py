"""Images: their names, their content, and the directories that overlayfs stacks.

May import: minirt.errors, minirt.paths and the standard library. Never the engine, oci or cli.

Read in this order:

    reference.py    what a name like `registry:5000/team/app:v1@sha256:…` says
    digest.py       content is named by its hash
    scratch.py      what is not finished yet, and how the dead are swept
    blobs.py        content: written, hashed, linked in
    index.py        names: index.json under a lock
    image.py        an image: manifest and configuration
    holds.py        who needs an image that may have lost its name
    partial.py      what arrives over a network, perhaps in more than one command
    origins.py      which repositories have a blob
    store.py        them together: `Store(root).resolve("busybox").layers()`
    collect.py      what nothing leads to goes
    layers.py       a stack of layers as directories for overlayfs
    compression.py  gzip, zstd, or nothing
    header.py       one entry of an archive, out of its header
    tar.py          an archive as a stream of entries
    tree.py         a path inside a root, and never outside it
    whiteouts.py    what hides a lower layer's content
    attributes.py   modes, owners, times
    lower.py        what the layers below have
    layer.py        entries -> files; whiteouts as overlayfs wants them
    pack.py         entries -> an archive, always the same bytes
    diff.py         what a container changed -> a layer
    view.py         layers as one tree, without a mount
    bootstrap.py    a distribution's archive -> an image
    squash.py       several layers -> one
    steps.py        what steps of builds gave, to be found again
    busybox.py      the embedded default image
    change.py       `CMD ["sh"]`, `ENV A=b`: an instruction applied to a configuration
    shape.py        a configuration that somebody else wrote
    importer.py     a root file system's tar -> an image
    save.py         images -> one archive, OCI's or docker's
    load.py         and back
    export.py       an image's file tree -> one tar
    compare.py      what two images differ in
    usage.py        what images cost, and share
    verify.py       every digest again
    remote/         registries: pull, push, search

The directory of a store is an OCI image layout (image-spec image-layout.md), with `layers/` (unpacked),
`tmp/` (unfinished), `holds/` (who needs an image that may have lost its name) and `origins/` (who else has a blob) beside it.
Nothing here imports at its top what `minirt run` of an unpacked image does not need.
"""
