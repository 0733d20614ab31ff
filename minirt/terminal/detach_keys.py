"""The keys that part a terminal from its container without ending either: docker's syntax and defaults.

    keys = DetachKeys(parse_detach_keys("ctrl-p,ctrl-q"))
    pass_on = keys.feed(typed)        # what the container gets
    if keys.detached: ...

The beginning of the sequence is held back until it is known to be none (docker's Ctrl-P that a shell's history sees
one key late). However the typing is cut into reads, the container gets the same bytes.
"""

from __future__ import annotations

from minirt.errors import UsageError

__all__ = ["DEFAULT_DETACH_KEYS", "DetachKeys", "parse_detach_keys"]

DEFAULT_DETACH_KEYS = b"\x10\x11"  # ctrl-p,ctrl-q
CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-X is X's place in this list (ASCII)


def parse_detach_keys(text: str) -> bytes:
    """Turn docker's notation for --detach-keys into the bytes that a terminal sends.

    Args:
        text: keys with commas between: one ASCII character, `ctrl-` and one of a-z @ [ \\ ] ^ _, or DEL. Empty: none.

    Returns: one byte for each key.
    Raises: UsageError for a key that is none of these.
    """
    return bytes(_key(word, text) for word in text.split(",")) if text else b""


def _key(word: str, text: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    if word == "DEL":
        return 127
    if len(word) == 6 and word.startswith("ctrl-") and word[5] in CONTROL:
        return CONTROL.index(word[5])
    raise UsageError(
        f"detach keys {text!r}: {word!r} is no key: write one character, ctrl-a to ctrl-z, ctrl-@ [ \\ ] ^ _, or DEL"
    )


class DetachKeys:
    """Looks for a sequence of bytes in what is typed.

    Args:
        keys: the sequence; empty or None: there is none, and all is passed on.
    """

    def __init__(self, keys: bytes | None = DEFAULT_DETACH_KEYS) -> None:
        self.keys = keys or b""
        self.held = b""  # typed, a beginning of the sequence, not passed on yet
        self.detached = False  # the whole sequence has come; what followed in the same read is dropped

    def feed(self, data: bytes) -> bytes:
        """Return what of the bytes typed so far is now to be passed on."""
        if not self.keys or (not self.held and self.keys[0] not in data):
            return data
        passed = bytearray()
        for byte in data:
            self.held += bytes((byte,))
            # The longest end of what was typed that may still become the sequence: "ppq" is in "pppq".
            while not self.keys.startswith(self.held):
                passed.append(self.held[0])
                self.held = self.held[1:]
            if self.held == self.keys:
                self.detached = True
                self.held = b""
                break
        return bytes(passed)
