"""Reads a delegation policy from TOML: it turns Windows' names into the fields of a `DelegationPolicy`.

Who calls: `DelegationPolicy.from_toml` and `DelegationPolicy.from_file`.
"""

import difflib
import pathlib
import tomllib
from typing import Any, Final

from acredssp.delegation.servers import SPNList
from acredssp.delegation.settings import RESTRICTED, SETTINGS, RestrictedAdministration, Setting
from acredssp.policy import EncryptionOracle

__all__ = ["read_fields", "read_file"]


def read_file(path: str) -> dict[str, Any]:
    """Read the fields from a file; see `read_fields`.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not such a policy. The error names the file and the key.
    """
    try:
        return read_fields(pathlib.Path(path).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_fields(text: str) -> dict[str, Any]:
    """Read the fields of a `DelegationPolicy`, only those that the text configures.

    Raises:
        ValueError: The text is not TOML, a key is unknown, or a value is wrong. The error names the key.
    """
    content = tomllib.loads(text)
    fields: dict[str, Any] = {}
    for setting in SETTINGS:
        if (servers := _take_list(content, setting)) is not None:
            fields[setting.field] = servers
    if (restricted := _take_restriction(content)) is not None:
        fields["restricted_administration"] = restricted
    if (level := _take_level(content)) is not None:
        fields["allow_encryption_oracle"] = level
    if (joined := _take_bool(content, "DomainJoined")) is not None:
        fields["domain_joined"] = joined
    _refuse_unknown(content)
    return fields


# --- each of these functions removes its own keys from the content ---


def _take_list(content: dict[str, Any], setting: Setting) -> SPNList | None:
    concatenate = _take_bool(content, f"ConcatenateDefaults_{setting.short}")
    value = content.pop(setting.name, None)
    if not isinstance(value, list):
        if value is not None and value is not False:
            raise ValueError(f"{setting.name}: expected a list of service principal names, or false, got {value!r}")
        if concatenate is not None:
            raise ValueError(
                f"ConcatenateDefaults_{setting.short}: expected only together with a list in {setting.name}, got none"
            )
        return None if value is None else SPNList()
    if wrong := [pattern for pattern in value if not isinstance(pattern, str)]:
        raise ValueError(f"{setting.name}: expected texts in the list, got {wrong[0]!r}")
    try:
        return SPNList(tuple(value), concatenate or False)
    except ValueError as error:
        raise ValueError(f"{setting.name}: {error}") from None


def _take_restriction(content: dict[str, Any]) -> RestrictedAdministration | None:
    key = f"{RESTRICTED}Type"
    restricted = _take_bool(content, RESTRICTED)
    number = content.pop(key, None)
    if not restricted:
        if number is not None:
            raise ValueError(f"{key}: expected only together with {RESTRICTED} = true, got it without")
        return None
    if type(number) is not int or number not in [*RestrictedAdministration]:
        raise ValueError(
            f"{key}: expected 1 (Restricted Admin), 2 (Remote Credential Guard) or 3 (either), got {number!r}"
        )
    return RestrictedAdministration(number)


def _take_level(content: dict[str, Any]) -> EncryptionOracle | None:
    value = content.pop("AllowEncryptionOracle", None)
    if value is None:
        return None
    for level in EncryptionOracle:
        if value == level.setting:
            return level
    expected = ", ".join(level.setting for level in EncryptionOracle)
    raise ValueError(f"AllowEncryptionOracle: expected one of {expected}, got {value!r}")


def _take_bool(content: dict[str, Any], key: str) -> bool | None:
    value = content.pop(key, None)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key}: expected true or false, got {value!r}")
    return value


def _refuse_unknown(content: dict[str, Any]) -> None:
    for key in content:
        similar = difflib.get_close_matches(key, _KEYS, n=1)
        raise ValueError(f"{key}: no such setting" + (f"; {similar[0]} is one" if similar else ""))


_KEYS: Final = (
    *(setting.name for setting in SETTINGS),
    *(f"ConcatenateDefaults_{setting.short}" for setting in SETTINGS),
    RESTRICTED,
    f"{RESTRICTED}Type",
    "AllowEncryptionOracle",
    "DomainJoined",
)
