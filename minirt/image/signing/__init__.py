"""Who vouches for an image: sigstore's simple signing with a key pair, and the policy that asks for it.

May import: minirt.image, minirt.paths; `cryptography` and `nacl` (an extra, `signing`), inside functions.

A signature is of a small JSON document, the payload, which says which manifest is meant and what it is called. It is kept as
an image of its own, whose layers are payloads and whose tag is sha256-HEX.sig: so it is stored, pushed and pulled as any image;
its manifest names the signed one as `subject` too, and is found as a referrer.

Read in this order:

    errors.py    what can go wrong
    keys.py      ECDSA P-256 keys: PEM, and cosign's encrypted private ones
    payload.py   what is signed
    attach.py    signatures beside their image, in the store
    policy.py    policy.json: which images need which signature
"""
