"""What things take on the disk, in the words of Docker's Engine API."""

from __future__ import annotations

from minirt.engine.disk import Disk, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.image.usage import Kept

__all__ = ["described"]

KINDS = {"image": ("LayersSize", "Images"), "container": ("Containers",), "volume": ("Volumes",),
         "build-cache": ("BuildCache", "BuilderSize")}  # fmt: skip


def described(disk: Disk, kinds: set[str]) -> dict[str, Any]:
    """Return an object of it. Args: kinds, which to tell of: image, container, volume, build-cache; none: all."""
    from minirt.engine.container_view import listed, sizes
    from minirt.engine.volume_view import described as volume_described

    whole = {
        "LayersSize": disk.layers,
        "Images": images(disk),
        "Containers": [{**listed(box), **sizes(box, size)} for box, size in disk.containers],
        "Volumes": [
            {**volume_described(volume), "UsageData": {"Size": size, "RefCount": links}} for volume, size, links in disk.volumes
        ],
        "BuildCache": [cached(one) for one in disk.caches],
        "BuilderSize": sum(one.size for one in disk.caches if not one.shared),
    }
    fields = {field for kind in kinds for field in KINDS.get(kind, ())}
    return {key: value for key, value in whole.items() if not kinds or key in fields}


def images(disk: Disk) -> list[dict[str, Any]]:
    """Return each image with its bytes on this disk, blobs and unpacked layers, as LayersSize counts them."""
    from minirt.engine import image_view
    from minirt.engine.filters import Filters

    store = open_store()
    costs = {cost.digest: cost for cost in disk.images}
    found = []
    for names, image in image_view.images(store, Filters([])):
        cost, told = costs.get(image.digest), image_view.listed(names, image)
        if cost is not None:  # else it has come meanwhile
            size = cost.stored + cost.unpacked
            told |= {"Size": size, "VirtualSize": size, "SharedSize": cost.shared}
        found.append({**told, "Containers": disk.standing.get(image.digest, 0)})
    return found


def cached(one: Kept) -> dict[str, Any]:
    """Return what a build keeps."""
    from minirt.engine.inspect import moment

    return {
        "ID": one.id, "Type": "exec.cachemount" if one.mount else "regular", "Description": "RUN --mount=type=cache" if one.mount
        else "a step's layer", "InUse": one.busy, "Shared": one.shared, "Size": one.size, "CreatedAt": moment(one.created),
        "LastUsedAt": moment(one.used), "UsageCount": one.count,
    }  # fmt: skip
