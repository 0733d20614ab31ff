"""Signatures: ours under skopeo's policy, skopeo's under ours, and a changed image refused by both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import debian_root
import pytest
from command import Minirt
from registries import DockerRegistry, available, registry  # noqa: F401

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="layers with owners need root"),
    pytest.mark.skipif(not available(), reason="docker-registry is not installed"),
]
PLAIN = "--tls-verify=false"


@pytest.fixture(scope="module")
def signing_skopeo(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A skopeo that knows sigstore: bookworm's was built without ("Debian-local change"), so trixie's, with its own libraries."""
    tar = debian_root.find_or_build("skopeo", "trixie")
    if isinstance(tar, str):
        pytest.skip(tar)
    place = tmp_path_factory.mktemp("trixie")
    wanted = ["./usr/bin/skopeo", "./usr/lib/x86_64-linux-gnu/*.so*"]
    subprocess.run(["tar", "-xf", tar, "-C", place, "--wildcards", *wanted], check=True, timeout=100)
    libraries = place / "usr" / "lib" / "x86_64-linux-gnu"
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(place / "usr" / "bin" / "skopeo")]


class Keys:
    """A pair of keys in cosign's form, policies that ask for them, and skopeo told where signatures are."""

    def __init__(self, place: Path, minirt: Minirt) -> None:
        self.place = place
        self.program = ["skopeo"]
        self.passphrase = place / "passphrase"
        self.passphrase.write_text("secret\n")
        ok(minirt("image", "keygen", "--passphrase-file", self.passphrase, place / "team"))
        self.private, self.public = place / "team.key", place / "team.pub"
        (place / "registries.d").mkdir()
        (place / "registries.d" / "all.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")

    def policy(self, identity: str = "matchRepoDigestOrExact") -> Path:
        signed = {"type": "sigstoreSigned", "keyPath": str(self.public), "signedIdentity": {"type": identity}}
        path = self.place / "policy.json"
        path.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {"": [signed]}}}))
        return path

    def skopeo(self, *words: object, **more: object) -> subprocess.CompletedProcess[str]:
        command = [*self.program, f"--registries.d={self.place}/registries.d", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)

    def copied(self, name: str) -> subprocess.CompletedProcess[str]:
        """Let skopeo copy an image under the policy."""
        out = self.place / f"out{len(os.listdir(self.place))}"
        return self.skopeo(f"--policy={self.policy()}", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{out}")


@pytest.fixture
def keys(own_store: Minirt, tmp_path: Path) -> Keys:
    return Keys(tmp_path, own_store)


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sign(minirt: Minirt, keys: Keys, name: str) -> None:
    ok(minirt("image", "sign", "--key", keys.private, "--passphrase-file", keys.passphrase, name))


@pytest.mark.long  # the first time a Debian root is made
@pytest.mark.timeout(800)
def test_skopeo_takes_what_we_sign_and_no_more(
    own_store: Minirt, registry: DockerRegistry, keys: Keys, signing_skopeo: list[str]
) -> None:
    keys.program = signing_skopeo
    signed, plain = f"{registry.host}/signed:1", f"{registry.host}/plain:1"
    for name in (signed, plain):
        ok(own_store("tag", "busybox", name))
    sign(own_store, keys, signed)
    ok(own_store("push", PLAIN, signed))
    ok(own_store("push", PLAIN, plain))
    ok(keys.copied(signed))
    refused = keys.copied(plain)
    assert refused.returncode != 0 and "signature" in refused.stderr


class Podman:
    """trixie's podman in its own Debian (bookworm's knows no sigstore), under a policy that asks for signatures by our key."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def trust(self, keys: Keys) -> None:
        """Let it want what `keys` signed."""
        places = self.root / "etc" / "containers"
        (places / "registries.d").mkdir(parents=True, exist_ok=True)
        for name in ("policy.json", "team.pub", "registries.d/all.yaml"):
            data = (keys.policy() if name == "policy.json" else keys.place / name).read_text()
            (places / name).write_text(data.replace(str(keys.public), "/etc/containers/team.pub"))

    def pull(self, name: str) -> subprocess.CompletedProcess[str]:
        script = """
            mount --bind "$0" "$0"  # podman unpacks in a chroot whose / it mounts again
            cd "$0"; mount -t proc proc proc; mount --rbind /sys sys
            exec chroot . podman --storage-driver vfs pull -q --tls-verify=false "$1"
        """
        words = ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", script, str(self.root), name]
        return subprocess.run(words, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    tar = debian_root.find_or_build("skopeo,podman", "trixie")
    if isinstance(tar, str):
        pytest.skip(tar)
    root = tmp_path_factory.mktemp("podman")
    subprocess.run(["tar", "-xf", tar, "-C", root], check=True, timeout=300)
    return Podman(root)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_podman_takes_what_we_sign_and_refuses_the_rest(
    own_store: Minirt, registry: DockerRegistry, keys: Keys, podman: Podman
) -> None:
    signed, plain = f"{registry.host}/ours:1", f"{registry.host}/ours-plain:1"
    for name in (signed, plain):
        ok(own_store("tag", "busybox", name))
    sign(own_store, keys, signed)
    for name in (signed, plain):
        ok(own_store("push", PLAIN, name))
    podman.trust(keys)
    assert ok(podman.pull(signed)) == json.loads(ok(own_store("image", "inspect", signed)))[0]["Id"].partition(":")[2]
    refused = podman.pull(plain)
    assert refused.returncode != 0 and "signature" in refused.stderr
    ok(own_store("image", "import", "-c", "CMD other", "/dev/stdin", signed, input=tar_text()))
    ok(own_store("push", PLAIN, signed))
    refused = podman.pull(signed)
    assert refused.returncode != 0 and "signature" in refused.stderr


@pytest.mark.long
@pytest.mark.timeout(800)
def test_what_skopeo_signs_is_verified_and_runs_under_our_policy(
    own_store: Minirt, registry: DockerRegistry, keys: Keys, signing_skopeo: list[str]
) -> None:
    keys.program = signing_skopeo
    name = f"{registry.host}/theirs:1"
    ok(keys.skopeo("copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--sign-by-sigstore-private-key", keys.private,
                   "--sign-passphrase-file", keys.passphrase, f"oci:{own_store.root}/lib/image:busybox:latest",
                   f"docker://{name}"))  # fmt: skip
    own_store.env["MINIRT_POLICY"] = str(keys.policy())
    ok(own_store("pull", PLAIN, name))
    assert ok(own_store("run", "--rm", name, "echo", "hi")) == "hi"
    assert "DAMAGED" not in ok(own_store("image", "verify", "--key", keys.public, name))
    refused = own_store("run", "--rm", "busybox", "true")
    assert refused.returncode == 125 and "no signature" in refused.stderr and refused.stderr.count("\n") == 1


def test_verify_fetches_a_signature_that_is_not_here(own_store: Minirt, registry: DockerRegistry, keys: Keys) -> None:
    name = f"{registry.host}/far:1"
    ok(own_store("tag", "busybox", name))
    sign(own_store, keys, name)
    ok(own_store("push", PLAIN, name))
    ok(own_store("tag", name, f"{registry.host}/far:2"))
    ok(own_store("rmi", name))
    assert len([row for row in rows(own_store) if "/far" in row["Repository"]]) == 2, "another name, and the signatures"
    ok(own_store("rmi", f"{registry.host}/far:2"))
    assert not [row for row in rows(own_store) if "/far" in row["Repository"]], "they go with the last name"
    ok(own_store("pull", PLAIN, name))
    assert len([row for row in rows(own_store) if "/far" in row["Repository"]]) == 1, "no policy asked for the signature"
    ok(own_store("image", "verify", PLAIN, "--key", keys.public, name))


def rows(minirt: Minirt) -> list[dict[str, str]]:
    return [json.loads(line) for line in ok(minirt("images", "-a", "--format=json")).splitlines()]


@pytest.mark.long
@pytest.mark.timeout(800)
def test_a_changed_image_is_refused_by_both(
    own_store: Minirt, registry: DockerRegistry, keys: Keys, signing_skopeo: list[str]
) -> None:
    keys.program = signing_skopeo
    name = f"{registry.host}/changed:1"
    ok(own_store("tag", "busybox", name))
    sign(own_store, keys, name)
    ok(own_store("push", PLAIN, name))
    ok(own_store("image", "import", "-c", "CMD other", "/dev/stdin", name, input=tar_text()))
    ok(own_store("push", PLAIN, name))
    refused = keys.copied(name)
    assert refused.returncode != 0 and "signature" in refused.stderr
    own_store.env["MINIRT_POLICY"] = str(keys.policy())
    done = own_store("run", "--rm", name, "true")
    assert done.returncode == 125 and "no signature" in done.stderr
    assert own_store("image", "verify", PLAIN, "--key", keys.public, name).returncode == 1


def tar_text() -> str:
    """A root file system, which has to be text to go through a pipe of text."""
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("file")
        tar.addfile(info)
    return stream.getvalue().decode()


def test_a_signature_for_another_name_is_not_taken(own_store: Minirt, registry: DockerRegistry, keys: Keys) -> None:
    name = f"{registry.host}/named:1"
    ok(own_store("tag", "busybox", name))
    ok(own_store("image", "sign", "--key", keys.private, "--passphrase-file", keys.passphrase, "--identity",
                 f"{registry.host}/named:2", name))  # fmt: skip
    own_store.env["MINIRT_POLICY"] = str(keys.policy())
    assert own_store("run", "--rm", name, "true").returncode == 125
    own_store.env["MINIRT_POLICY"] = str(keys.policy("matchRepository"))
    assert own_store("run", "--rm", name, "true").returncode == 0


def test_a_signature_is_found_as_a_referrer(own_store: Minirt, registry: DockerRegistry, keys: Keys) -> None:
    """docker-registry has no referrers API: so the tag that stands in for it lists the signature."""
    from minirt.image.remote.registries import Place
    from minirt.image.remote.registry import connect

    name = f"{registry.host}/referred:1"
    ok(own_store("tag", "busybox", name))
    sign(own_store, keys, name)
    ok(own_store("push", PLAIN, name))
    digest = json.loads(ok(own_store("image", "inspect", name)))[0]["Digest"]
    (found,) = connect(Place(registry.host, "referred", True)).referrers(digest)
    assert found["artifactType"] == "application/vnd.dev.cosign.artifact.sig.v1+json"
    raw = ok(keys.skopeo("inspect", "--raw", PLAIN, f"docker://{registry.host}/referred@{found['digest']}"))
    assert json.loads(raw)["subject"]["digest"] == digest


UNKNOWN = {"type": "sigstoreSigned", "keyPath": "/dev/null", "rekorPublicKeyPath": "/dev/null"}
BOTH = {"type": "sigstoreSigned", "keyPath": "/dev/null", "keyData": ""}
POLICIES = [
    json.dumps({"default": [UNKNOWN]}), json.dumps({"default": [BOTH]}),
    "{", "[]", '{"default": []}', '{"default": [{"type": "signedBy"}]}', '{"default": [{"type": "reject"}]}',
]


@pytest.mark.parametrize("text", POLICIES)
def test_a_policy_that_is_not_understood_lets_nothing_run(own_store: Minirt, tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.json").write_text(text)
    own_store.env["MINIRT_POLICY"] = str(tmp_path / "policy.json")
    done = own_store("run", "--rm", "busybox", "true")
    assert done.returncode == 125 and "policy" in done.stderr and done.stderr.count("\n") == 1


def test_a_key_of_openssl_signs_too(own_store: Minirt, tmp_path: Path) -> None:
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", tmp_path / "key"], check=True)
    subprocess.run(["openssl", "ec", "-in", tmp_path / "key", "-pubout", "-out", tmp_path / "pub"], check=True, capture_output=True)
    ok(own_store("image", "sign", "--key", tmp_path / "key", "busybox"))
    assert f"signed by {tmp_path}/pub" in ok(own_store("image", "verify", "--key", tmp_path / "pub", "busybox"))
    ok(own_store("image", "verify", "--all"))


@pytest.mark.parametrize("what", ["passphrase", "key"])
def test_a_wrong_key_is_told_in_a_line(own_store: Minirt, keys: Keys, what: str) -> None:
    keys.passphrase.write_text("wrong")
    key = keys.private if what == "passphrase" else keys.public
    done = own_store("image", "sign", "--key", key, "--passphrase-file", keys.passphrase, "busybox")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "private key" in done.stderr
