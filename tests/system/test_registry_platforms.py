"""An index of several platforms: which of its images is pulled, and by which names it is found again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import liars
import pytest
from command import Minirt
from liars import Content, Handler, Registry, tar

PLAIN = "--tls-verify=false"
INDEX = "application/vnd.oci.image.index.v1+json"
PLATFORMS = ("amd64", "arm64", "riscv64")


class Indexed:
    """The lie of a registry whose tags are an index of images, one a platform."""

    def __init__(self) -> None:
        self.images = {name: Content(tar({"which": name.encode()})) for name in PLATFORMS}
        entries = [
            {**liars.descriptor(image.manifest, liars.MANIFEST), "platform": {"os": "linux", "architecture": name}}
            for name, image in self.images.items()
        ]
        self.index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()

    def __call__(self, handler: Handler) -> bool:
        name = handler.path.rpartition("/")[2]
        if "/manifests/" in handler.path and (":" not in name or name == liars.digest(self.index)):
            handler.answer(200, self.index, Content_Type=INDEX)
            return True
        for image in self.images.values():
            if name == liars.digest(image.manifest):
                handler.answer(200, image.manifest, Content_Type=liars.MANIFEST)
                return True
            if name in image.blobs:
                handler.answer(200, image.blobs[name])
                return True
        return False


@pytest.fixture
def indexed() -> Iterator[tuple[Indexed, Registry]]:
    lie = Indexed()
    with Registry(Content(), lie) as registry:
        yield lie, registry


class Nested(Indexed):
    """Its tags are an index of an index for each platform, and of one that does not say what it is for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = {}
        entries = []
        for entry in json.loads(self.index)["manifests"]:
            index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
            self.inner[liars.digest(index)] = index
            platform = {"platform": entry["platform"]} if entry["platform"]["architecture"] != "riscv64" else {}
            entries.append({**liars.descriptor(index, INDEX), **platform})
        self.index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()

    def __call__(self, handler: Handler) -> bool:
        index = self.inner.get(handler.path.rpartition("/")[2])
        if index is None:
            return super().__call__(handler)
        handler.answer(200, index, Content_Type=INDEX)
        return True


@pytest.mark.parametrize(("wanted", "name"), [("", "amd64"), ("linux/arm64", "arm64"), ("riscv64", "riscv64")])
def test_an_index_of_indexes_is_followed(own_store: Minirt, wanted: str, name: str) -> None:
    lie = Nested()
    with Registry(Content(), lie) as registry:
        done = own_store("pull", PLAIN, f"--platform={wanted}", f"{registry.host}/app:1")
        assert done.returncode == 0, done.stderr
        assert layers(own_store, f"{registry.host}/app:1") == [liars.digest(layer) for layer in lie.images[name].layers]
        assert len([line for line in registry.asked if "/manifests/" in line]) == 3
        none = own_store("pull", PLAIN, "--platform=linux/s390x", f"{registry.host}/app:1")
    assert none.returncode == 1 and "linux/amd64, linux/arm64, linux/riscv64" in none.stderr and none.stderr.count("\n") == 1


def test_an_index_that_is_called_an_image_is_refused(own_store: Minirt) -> None:
    lie = Nested()
    document = json.loads(lie.index)
    for entry in document["manifests"]:
        entry["mediaType"] = liars.MANIFEST
    lie.index = json.dumps(document).encode()
    with Registry(Content(), lie) as registry:
        done = own_store("pull", PLAIN, f"{registry.host}/app:1")
    assert done.returncode == 1 and "an index that it calls an image" in done.stderr and done.stderr.count("\n") == 1


def layers(minirt: Minirt, name: str) -> list[str]:
    return [layer["digest"] for layer in json.loads(minirt("image", "inspect", name).stdout)[0]["Layers"]]


WANTED = [("", "amd64"), ("linux/arm64", "arm64"), ("linux/arm64/v8", "arm64"), ("riscv64", "riscv64")]


@pytest.mark.parametrize(("wanted", "name"), WANTED)
def test_the_image_of_the_platform_is_pulled(own_store: Minirt, indexed: tuple[Indexed, Registry], wanted: str, name: str) -> None:
    lie, registry = indexed
    done = own_store("pull", PLAIN, *([f"--platform={wanted}"] if wanted else []), f"{registry.host}/app:1")
    assert done.returncode == 0, done.stderr
    assert layers(own_store, f"{registry.host}/app:1") == [liars.digest(layer) for layer in lie.images[name].layers]


def test_a_platform_that_is_not_there_is_told_with_those_that_are(own_store: Minirt, indexed: tuple[Indexed, Registry]) -> None:
    done = own_store("pull", PLAIN, "--platform=linux/s390x", f"{indexed[1].host}/app:1")
    assert done.returncode == 1 and "linux/amd64, linux/arm64, linux/riscv64" in done.stderr and done.stderr.count("\n") == 1


def test_a_name_of_one_image_is_pulled_with_a_warning_where_it_is_for_another_machine(own_store: Minirt) -> None:
    with Registry(Content()) as registry:
        done = own_store("pull", "-q", PLAIN, "--platform=linux/arm64", f"{registry.host}/app:1")
        assert done.returncode == 0 and "is for linux/amd64, and linux/arm64 was wanted" in done.stderr
        assert "wanted" not in own_store("pull", "-q", PLAIN, "--platform=linux/amd64", f"{registry.host}/app:1").stderr


def test_an_index_is_pulled_by_its_digest_and_found_by_it(own_store: Minirt, indexed: tuple[Indexed, Registry]) -> None:
    lie, registry = indexed
    name = f"{registry.host}/app@{liars.digest(lie.index)}"
    assert own_store("pull", PLAIN, name).returncode == 0
    assert layers(own_store, name) == [liars.digest(layer) for layer in lie.images["amd64"].layers]
    assert layers(own_store, f"{registry.host}/app@{liars.digest(lie.images['amd64'].manifest)}") == layers(own_store, name)
    assert own_store("rmi", name).returncode == 0 and own_store("image", "inspect", name).returncode == 1
