"""The store: content is what its digest says, names change whole, and what a killed process left is swept."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_archives import archive, folder, member

from minirt.image import importer
from minirt.image.errors import BadArchive, BadReference, Damaged, ImageError, UnknownImage
from minirt.image.index import Index, name_of
from minirt.image.store import MEDIA_CONFIG, MEDIA_MANIFEST, Image, Store
from minirt.image.verify import verify

LAYER = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path)


def make_store(path: Path) -> Store:
    store = Store(str(path / "image"))
    with store.adding():
        pass
    return store


def add(store: Store, name: str, *members: tuple) -> Image:
    """An image made of a tar."""
    fd = os.memfd_create("tar")
    try:
        os.write(fd, archive(*members))
        os.lseek(fd, 0, os.SEEK_SET)
        return importer.import_rootfs(store, fd, name)
    finally:
        os.close(fd)


def unfinished(store: Store) -> list[str]:
    return os.listdir(store.root + "/tmp")


def blob_path(store: Store, digest: str) -> Path:
    return Path(store.root, "blobs", *digest.split(":"))


# -- blobs


@given(parts=st.lists(st.binary(max_size=2000), max_size=5))
def test_a_blob_is_named_by_the_hash_of_its_bytes(tmp_path_factory, parts):
    store = make_store(tmp_path_factory.mktemp("store"))
    with store.blobs.writer() as blob:
        for part in parts:
            blob.write(part)
        descriptor = blob.commit("text/plain")
    whole = b"".join(parts)
    assert descriptor == {
        "mediaType": "text/plain", "size": len(whole), "digest": "sha256:" + hashlib.sha256(whole).hexdigest()
    }  # fmt: skip
    path = blob_path(store, descriptor["digest"])
    assert path.read_bytes() == store.blobs.read(descriptor) == whole
    assert stat.S_IMODE(path.stat().st_mode) == 0o444 and not unfinished(store)


@pytest.mark.parametrize("announced", [{"digest": "sha256:" + "0" * 64}, {"size": 3}])
def test_what_is_not_as_announced_gets_no_name(store, announced):
    with pytest.raises(Damaged), store.blobs.writer() as blob:
        blob.write(b"four")
        blob.commit("text/plain", **announced)
    assert store.blobs.all() == unfinished(store) == []


def test_a_blob_has_no_name_before_it_is_whole(store):
    with store.blobs.writer() as blob:
        blob.write(b"half")
        assert store.blobs.all() == [] and len(unfinished(store)) == 1
    assert store.blobs.all() == unfinished(store) == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [(lambda p: p.unlink(), "missing"), (lambda p: p.write_bytes(b"{}"), "truncated"), (lambda p: p.write_bytes(b""), "truncated"),
     (lambda p: p.write_bytes(b'{"a":2}'), "altered"), (lambda p: p.write_bytes(b'{"a":1} '), "altered")],
)  # fmt: skip
def test_a_blob_that_changed_on_disk_is_named_and_written_again_is_healed(store, damage, word):
    descriptor = store.blobs.add_json({"a": 1}, MEDIA_CONFIG)
    path = blob_path(store, descriptor["digest"])
    path.chmod(0o600)
    damage(path)
    with pytest.raises(Damaged, match=f"{descriptor['digest']} is {word}"):
        store.blobs.read(descriptor)
    assert store.blobs.add_json({"a": 1}, MEDIA_CONFIG) == descriptor
    assert store.blobs.read_json(descriptor) == {"a": 1}


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 63, 7]
)
def test_what_is_no_digest_is_no_path(store, digest):
    with pytest.raises(Damaged):
        store.blobs.open({"digest": digest, "size": 1})


@pytest.mark.parametrize("text", [b"[]", b"1", b"{", b"", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_document_that_is_no_object_is_damaged(store, text):
    with pytest.raises(Damaged, match="not a JSON object"):
        store.blobs.read_json(store.blobs.add(text, MEDIA_CONFIG))


def test_the_same_document_is_the_same_blob_whatever_its_order(store):
    assert store.blobs.add_json({"a": 1, "b": 2}, "x") == store.blobs.add_json({"b": 2, "a": 1}, "x")


# -- names

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(document=json_values | st.builds(lambda m: {"manifests": m}, json_values | st.lists(json_values, max_size=3))
       | st.builds(lambda a: {"manifests": [{"annotations": a, "digest": a}]}, json_values))  # fmt: skip
def test_any_json_is_an_index_or_is_refused(tmp_path_factory, document):
    root = tmp_path_factory.mktemp("store")
    (root / "index.json").write_text(json.dumps(document))
    store = Store(str(root))
    try:
        assert all(isinstance(name_of(entry), str) for entry in store.index.entries())
        store.resolve("busybox")
    except ImageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff", b'{"manifests":' + b"[" * 100_000])
def test_an_index_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "index.json").write_bytes(text)
    with pytest.raises(Damaged, match="not an image index"):
        Index(str(tmp_path)).entries()


names = st.sampled_from(["a:latest", "a:1", "b:latest", "host:5000/c:x"])
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)


@given(steps=st.lists(st.tuples(names, st.none() | st.sampled_from(range(4)), st.booleans()), max_size=12))
def test_an_index_is_a_dictionary_of_names_and_a_set_of_what_has_lost_its_own(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("store")
    index, model, lost = Index(str(root)), {}, set()
    for name, number, keep in steps:
        before = model.pop(name, "")
        if number is None:
            index.remove(name)
            continue
        model[name] = digest = f"sha256:{number:064}"
        assert index.set(name, {"digest": digest, "size": 1, "mediaType": MEDIA_MANIFEST}, keep=keep) == before
        lost |= {before} - {""} if keep else set()
        lost -= set(model.values())
    written = json.loads((root / "index.json").read_text())["manifests"] if steps else []
    key = "org.opencontainers.image.ref.name"
    assert {one["annotations"][key]: one["digest"] for one in written if "annotations" in one} == model
    nameless = [one["digest"] for one in written if "annotations" not in one]
    assert set(nameless) == lost and len(nameless) == len(lost) and len(written) == len(model) + len(lost)
    for digest in lost:
        index.remove("", digest)
    assert len(index.entries()) == len(model)


def test_names_set_at_the_same_time_are_all_kept(store):
    program = (
        "import sys; from minirt.image.index import Index\n"
        "for n in range(25): Index(sys.argv[1]).set(f'{sys.argv[2]}{n}:latest', {'digest': 'x'})"
    )
    children = [subprocess.Popen([sys.executable, "-c", program, store.root, letter]) for letter in "abcd"]
    assert [child.wait(60) for child in children] == [0] * 4
    assert len(store.index.entries()) == 100


@pytest.mark.parametrize("size", ["\n", None, 5.0, True, [1], "x" * 1000, -1])
def test_a_size_that_is_none_is_told_in_a_short_line(store, size):
    blob = store.blobs.add(b"12345", LAYER)
    with pytest.raises(Damaged) as caught:
        store.blobs.open({**blob, "size": size})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


# -- images


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_manifest_and_configuration_make_an_image_or_are_refused(tmp_path_factory, data):
    store = make_store(tmp_path_factory.mktemp("store"))
    digest = "sha256:" + "0" * 64
    config = {"rootfs": {"type": "layers", "diff_ids": [digest]}, "config": {"Env": ["A=b"]}, "history": [], "created": ""}
    layer = {"mediaType": LAYER, "digest": digest, "size": 1}
    config = replaced(data, config)
    descriptor = store.blobs.add_json(config, MEDIA_CONFIG)
    manifest = replaced(data, {"config": descriptor, "layers": [layer]})
    entry = store.blobs.add_json(manifest, MEDIA_MANIFEST)
    store.index.set("a:latest", entry)
    path = Path(store.root, "index.json")
    if data.draw(st.booleans()):
        path.write_text(json.dumps(replaced(data, json.loads(path.read_text()))))
    try:
        image = store.resolve("a")
        image.layers()
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        raise AssertionError("its layer is not there")


def replaced(data, document):
    """A document with something in it replaced by anything."""
    if not isinstance(document, (dict, list)) or not document or data.draw(st.integers(0, 4)) == 0:
        return data.draw(json_values)
    document = document.copy()
    key = data.draw(st.sampled_from(sorted(document) if isinstance(document, dict) else range(len(document))))
    document[key] = replaced(data, document[key])
    return document


def test_an_image_is_found_by_each_of_its_names(store):
    image = add(store, "host:5000/team/app:v1", member("f"))
    for name in ("host:5000/team/app:v1", f"host:5000/team/app@{image.digest}", image.id, image.id[7:19], image.digest):
        assert store.resolve(name).digest == image.digest
    for name in ("app", "host:5000/team/app", "host:5000/team/app:v2", "app@" + image.digest, "abcd"):
        with pytest.raises(UnknownImage):
            store.resolve(name)


def test_an_image_index_is_refused_in_a_line(store):
    descriptor = store.blobs.add_json({}, "application/vnd.oci.image.index.v1+json")
    store.index.set("multi:latest", descriptor)
    with pytest.raises(ImageError, match="only single image manifests"):
        store.resolve("multi")


def test_an_image_that_is_replaced_while_it_is_read_is_read_anew(store, monkeypatch):
    """Readers take no lock: what the index said a moment ago may be gone by now."""
    first = add(store, "a", member("f", data=b"1"))
    read, images = store.blobs.read, []

    def read_late(descriptor: dict) -> bytes:
        if not images:
            images.append(None)
            images.append(add(store, "a", member("f", data=b"2")))
            store.remove(first.id)
        return read(descriptor)

    monkeypatch.setattr(store.blobs, "read", read_late)
    assert store.resolve("a").digest == images[1].digest


def test_an_image_whose_name_went_to_another_is_found_by_its_id_until_it_is_removed(store):
    first = add(store, "a", member("f", data=b"1"))
    second = add(store, "a", member("f", data=b"2"))
    assert first.digest != second.digest and store.resolve("a").digest == second.digest
    for word in (first.id, first.id[7:19], first.digest):
        assert (store.resolve(word).digest, store.resolve(word).name) == (first.digest, "")
    assert Path(store.resolve(first.id).layers()[0], "f").read_bytes() == b"1"
    assert [image.name for image in store.images()] == ["", "a:latest"]
    assert set(store.remove(first.id[7:19])) == {first.digest, first.id, first.manifest["layers"][0]["digest"]}
    assert set(store.blobs.all()) == {second.digest, second.id, second.manifest["layers"][0]["digest"]}
    assert len(store.layers.all()) == 1 and Path(second.layers()[0], "f").read_bytes() == b"2"


def test_what_has_another_name_or_gets_one_is_not_kept_without(store):
    first = add(store, "a", member("f", data=b"1"))
    store.tag("a", "b")
    add(store, "a", member("f", data=b"2"))
    assert [image.name for image in store.images()] == ["a:latest", "b:latest"]
    store.tag("a", "b")
    assert [image.name for image in store.images()] == ["", "a:latest", "b:latest"]
    store.tag(first.digest, "c")
    assert [image.name for image in store.images()] == ["a:latest", "b:latest", "c:latest"]
    store.add_nameless(first.descriptor)
    store.remove("c")
    assert {image.name for image in store.images()} == {"a:latest", "b:latest"} and first.digest not in store.blobs.all()


def test_removing_a_name_leaves_what_another_needs(store):
    image = add(store, "a", folder("d"), member("d/f", data=b"x"))
    store.tag("a", "b")
    assert store.remove("a") == [] and Path(store.resolve("b").layers()[0], "d/f").exists()
    gone = store.remove("b")
    assert set(gone) == {image.digest, image.id, image.manifest["layers"][0]["digest"]}
    assert store.blobs.all() == store.layers.all() == unfinished(store) == []


def test_an_image_that_is_held_stays_until_it_is_released(store):
    image = add(store, "a", member("f"))
    store.hold("container", image)
    assert store.remove("a") == [] and image.layers()
    store.release("container")
    assert len(store.collect()) == 3 and store.layers.all() == []


def test_a_damaged_image_can_be_removed(store):
    image = add(store, "a", member("f"))
    path = blob_path(store, image.digest)
    path.chmod(0o600)
    path.write_bytes(b"{")
    with pytest.raises(Damaged):
        store.resolve("a")
    store.remove("a")
    assert store.blobs.all() == store.layers.all() == []


def test_nothing_is_removed_while_an_image_that_stays_cannot_be_read(store):
    image, other = add(store, "a", member("f")), add(store, "b", member("g"))
    blob_path(store, image.digest).unlink()
    assert store.remove("b") == [] and blob_path(store, other.digest).exists()


def test_an_unpacked_layer_that_is_gone_comes_back(store):
    image = add(store, "a", folder("d"), member("d/f", data=b"x"))
    store.layers.remove(store.layers.all()[0])
    assert Path(store.resolve("a").layers()[0], "d/f").read_bytes() == b"x"
    assert [problem for _, problem in verify(store, image)] == ["", "", ""]


@pytest.mark.parametrize("at", [0, 300, 700, -1])
def test_a_layer_that_was_altered_is_not_unpacked_and_verify_names_it(store, at):
    image = add(store, "a", member("f", data=b"x" * 700))
    layer = image.manifest["layers"][0]
    store.layers.remove(store.layers.all()[0])
    path = blob_path(store, layer["digest"])
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=layer["digest"]):
        image.layers()
    assert store.layers.all() == unfinished(store) == []
    assert "altered" in dict(verify(store, image))[layer["digest"]]


def test_what_cannot_be_imported_leaves_nothing(store):
    with pytest.raises(BadArchive):
        add(store, "a", member("f"), member("../f"))
    with pytest.raises(BadReference):
        add(store, "A", member("f"))
    assert store.index.entries() == store.blobs.all() == store.layers.all() == unfinished(store) == []


# -- what a killed process leaves


def test_what_nobody_locks_is_swept_and_what_is_locked_stays(store):
    os.mkdir(store.root + "/tmp/dead")
    Path(store.root, "tmp", "dead", "file").touch()
    Path(store.root, "tmp", "gone").touch()
    alive = os.open(store.root + "/tmp/alive", os.O_RDWR | os.O_CREAT)
    fcntl.flock(alive, fcntl.LOCK_EX)
    try:
        store.blobs.add(b"data", "text/plain")
        assert unfinished(store) == ["alive"]
    finally:
        os.close(alive)


def test_a_layer_being_removed_when_its_remover_died_is_no_layer(store):
    image = add(store, "a", member("f"))
    os.rename(store.layers.path(image.diff_ids[0]), store.root + "/tmp/half")
    assert Path(store.resolve("a").layers()[0], "f").exists() and unfinished(store) == []


def test_a_hold_that_was_being_written_goes_with_the_next_collection(tmp_path):
    store = make_store(tmp_path)
    store.collect()
    left = Path(store.root, "holds", "0123.new")
    left.write_text("{")
    store.collect()
    assert not left.exists()


def test_who_removes_content_does_not_wait_for_an_hour_and_the_last_who_adds_removes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minirt.image.store.MOMENT", 0.05)
    image = add(store, "gone", member("f", data=b"content"))
    with store.adding(), store.adding():  # a pull that takes long, and another
        assert store.remove("gone") == [] and store.blobs.all()
        with pytest.raises(UnknownImage):
            store.resolve("gone")
        store.settle()
        assert image.digest in store.blobs.all(), "somebody adds still"
    store.settle()
    assert store.blobs.all() == [] and store.layers.all() == []
    assert sorted(os.listdir(store.root)) == sorted(os.listdir(make_store_like(store)))


def make_store_like(store: Store) -> str:
    """Return a store's directory in which nothing but an image's coming and going ever happened."""
    other = Store(store.root + "-other")
    with other.adding():
        pass
    add(other, "x", member("f"))
    other.remove("x")
    return other.root
