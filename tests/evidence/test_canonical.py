"""Canonical JSON agrees with the examples of RFC 8785 and gives one hash a meaning."""

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evidence.canonical import canonical_json, canonical_sha256

# RFC 8785, appendix B: IEEE-754 bits and the expected spelling.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé\U0001f600"), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(("bits", "spelling"), NUMBERS)
def test_numbers_are_spelled_as_in_appendix_b(bits, spelling):
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == spelling.encode()


def test_keys_are_sorted_by_utf16_code_units_as_in_section_3_2_3():
    names = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    written = list(json.loads(canonical_json(names)).values())
    assert written == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


def test_strings_are_escaped_as_in_section_3_2_2():
    text = '\u20ac$\u000f\u000aA\'B"\\\\"/'
    assert canonical_json(text) == b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'


@given(json_values)
def test_what_is_written_reads_back_and_writes_the_same_again(value):
    written = canonical_json(value)
    read = json.loads(written, parse_int=float)  # the data model of RFC 8785 has only doubles
    assert canonical_json(read) == written
    assert read == value


@given(st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 9), min_size=2))
def test_the_order_of_keys_does_not_change_the_hash(plan):
    turned = dict(reversed(plan.items()))
    assert canonical_sha256(plan) == canonical_sha256(turned)


def test_the_hash_is_the_sha256_of_the_canonical_bytes():
    assert (
        canonical_sha256({"b": 1.0, "a": (1, 2)})
        == hashlib.sha256(b'{"a":[1,2],"b":1}').hexdigest()
    )


def test_numpy_values_count_as_their_python_values():
    plan = {"seeds": np.arange(3), "alpha": np.float64(0.5), "flag": np.bool_(True)}
    assert canonical_json(plan) == b'{"alpha":0.5,"flag":true,"seeds":[0,1,2]}'


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ({"seeds": [1.0, float("nan")]}, ValueError, r"\$\.seeds\[1\].*not a finite"),
        ({"a": 2**53 + 1}, ValueError, r"\$\.a: no double equals"),
        ({"a": 10**400}, ValueError, "no double equals"),
        ({"a": "\ud800"}, ValueError, "lone surrogate"),
        ({1: "a"}, TypeError, "not text"),
        ({"a": {1, 2}}, TypeError, r"\$\.a: a set"),
    ],
)
def test_what_has_no_canonical_spelling_is_refused_with_its_place(value, error, words):
    with pytest.raises(error, match=words):
        canonical_json(value)
