"""Limits on what a config of a stranger may hold."""

import time
from pathlib import Path

import pytest

from napari_tokensparse.common.untrusted import (
    MAX_YAML_BYTES,
    json_object,
    yaml_mapping,
    yaml_value,
)

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nests deeper than 32 levels"),
        ('{"a":' * 40 + "1" + "}" * 40, "nests deeper than 32 levels"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is given more than once"),
        ('{"a": NaN}', "NaN is not a number of JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number of JSON"),
        ('{"a": 1e999}', "1e999 is too large a number"),
        ('{"a": ' + "9" * 100_000 + "}", "holds a number of 100000 digits"),
        ("[]", "must hold one JSON object"),
        ("", "Expecting value"),
    ],
)
def test_json_beyond_the_limits_is_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said) as refused:
        json_object(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nests deeper than 32 levels"),
        ("a: &x 1\nb: *x", "may not stand in several places"),
        (LAUGHS, "may not stand in several places"),
        ("a: 1\na: 2", "'a' is given more than once"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: !!python/name:builtins.eval", "could not determine a constructor"),
        ("a: !!python/object/new:os.system ['true']", "could not determine a constructor"),
        ("a: !!timestamp x", "."),
        ("a: !!int ''", "."),
        ("a: !!bool x", "."),
        ("a: !!float x", "."),
        ("a: " + "9" * 9_000, "."),
        ("a: " + "1:" * 9_000 + "1", "holds a value of more than"),
        ("? [a]\n: 1", "unhashable"),
        ("a: 1\n--- \nb: 2", "expected a single document"),
        ("- 1", "must hold this"),
        ("#" * (MAX_YAML_BYTES + 1), "is larger than"),
    ],
)
def test_yaml_beyond_the_limits_is_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(ValueError, match=said) as refused:
        yaml_mapping(path, "this")
    assert time.process_time() - began < 5
    assert "\n" not in str(refused.value)


def test_what_configs_do_hold_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2.5, null, {"b": "c"}], "d": -0.5, "e": true}', "utf-8")
    held = {"a": [1, 2.5, None, {"b": "c"}], "d": -0.5, "e": True}
    assert json_object(path) == yaml_mapping(path, "it") == held
    assert yaml_value("[0.5, 1]") == [0.5, 1]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        json_object(tmp_path)
    with pytest.raises(OSError, match="no such"):
        json_object(tmp_path / "no such")
