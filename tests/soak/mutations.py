"""Ways to damage a file: at random as a disk does, and on purpose as an attacker does."""

import copy
import json
import random
import struct
from typing import Any

HOSTILE_NUMBERS = (0, 1, -1, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 10**30)
HOSTILE_FLOATS = (0.0, -0.0, 1e-45, 1e-6, 1e6, 1e38, -1e38, float("inf"), float("-inf"), float("nan"))
FORMS = (*((form, HOSTILE_NUMBERS) for form in "bhiq"), *((form, HOSTILE_FLOATS) for form in "fd"))
HOSTILE_VALUES = (
    *(None, True, False, "", " ", "\0", "../../etc/passwd", "a\nb", "é" * 300, "background", [], {}, [[]], [None]),
    *(-1, 0.5, 1e308, 10**400, -(2**63), 255, 256, 65536, {"": ""}, [1, 2], [1, 2, 3, 4], ["1", "2", "3"]),
    *([1e300] * 3, "NaN", float("nan"), float("inf"), [float("nan")] * 3, ["x"] * 1000),
)


def hostile_value(rng: random.Random) -> Any:
    """A value that nobody expects; now and then one so large that code which takes quadratic time over it hangs."""
    match rng.randrange(100):
        case 0:
            return "1" * 200_000 + "x"
        case 1:
            return {str(number): f"label_{number}" for number in range(1, 50_000)}
        case 2:
            return [{"image": "imagesTr/none.nii", "label": f"{number}.nii"} for number in range(2000)]
    return copy.deepcopy(rng.choice(HOSTILE_VALUES))


def damaged(data: bytes, rng: random.Random, focus: int = 0) -> bytes:
    """Bytes with one to four mutations.

    Args:
        focus: half of the mutations fall into the first so many bytes, a header for example.
    """
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        end = min(focus, len(content)) if focus and rng.random() < 0.5 else len(content)
        at = rng.randrange(max(end, 1))
        match rng.randrange(7):
            case 0 | 1:
                for _ in range(rng.choice((1, 1, 2, 8))):
                    spot = rng.randrange(max(end, 1))
                    content[spot : spot + 1] = bytes([content[spot] ^ 1 << rng.randrange(8)] if content else [])
            case 2:
                del content[at:]
            case 3:
                form, values = rng.choice(FORMS)
                size = struct.calcsize(form)
                value = rng.choice(values)
                if form in "bhiq":
                    value = (value + 2 ** (8 * size - 1)) % 2 ** (8 * size) - 2 ** (8 * size - 1)
                at -= at % size
                content[at : at + size] = struct.pack(rng.choice("<>") + form, value)
            case 4:
                length = rng.choice((1, 4, 16, 100))
                source = rng.randrange(max(len(content), 1))
                content[at : at + length] = content[source : source + length]
            case 5:
                content[at:at] = rng.randbytes(rng.choice((1, 4, 16, 1000)))
            case 6:
                del content[at : at + rng.choice((1, 4, 16, 100))]
    return bytes(content)


def damaged_value(value: Any, rng: random.Random) -> Any:
    """A JSON value, or any tree of dictionaries and lists, with one to three nodes replaced, doubled or gone."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        entries = list(places(value))
        if not entries:
            return hostile_value(rng)
        parent, key = rng.choice(entries)
        match rng.randrange(6):
            case 0 | 1 | 2:
                parent[key] = hostile_value(rng)
            case 3:
                other, name = rng.choice(entries)
                parent[key] = copy.deepcopy(other[name])
            case 4:
                nested: Any = 1
                for _ in range(rng.choice((3, 20, 100))):
                    nested = [nested] if rng.random() < 0.5 else {"a": nested}
                parent[key] = nested
            case 5:
                del parent[key]
    return value


def damaged_json(value: Any, rng: random.Random) -> bytes:
    """The text of a JSON value, damaged as a tree, as text, or both."""
    kind = rng.randrange(4)
    if kind < 3:
        value = damaged_value(value, rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if kind == 0 and rng.random() < 0.1:
        text = b"[" * rng.choice((10, 1000, 100_000)) + text
    return damaged(text, rng) if kind in (0, 3) else text


def places(value: Any) -> Any:
    """Every entry of every dictionary and list in a tree, as its parent and key."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(entries):
        yield value, key
        yield from places(child)
