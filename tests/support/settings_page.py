"""The page of every setting of `acredssp proxy`, made of the models of `acredssp.proxy.settings`.

`make conformance` writes the page; tests/proxy/test_settings_page.py fails where it is stale.
"""

import enum
import pathlib
import types
import typing
from collections.abc import Iterator
from importlib.metadata import EntryPoint

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from acredssp.proxy.settings import Address, ListenerSettings, SecretSource, Settings

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "gateway-settings.md"

HEAD = """\
# Every setting of `acredssp proxy`

The settings file is TOML. [gateway.md](gateway.md) explains it, and `acredssp proxy init FILE` writes one to begin
with. `make conformance` makes this page of the models in `acredssp/proxy/settings.py`: do not edit it.

A heading names a table as the file has it: `[[listeners]]` may come several times, and NAME is a name of your own. A
setting without a default is needed wherever its table is. These are the kinds of values:

| kind | what it is |
| --- | --- |
| HOST:PORT | a text: a name or an IP address, and a port; an IPv6 address stands in brackets, `"[::1]:3389"` |
| file | a text: a path, relative to the folder of the settings file |
| secret | a text: `"file:PATH"`, `"env:NAME"` or `"credential:NAME"` (of systemd) says where the secret lies |
| plug-in | a text: `"package.module:function"`, which Python can import |
| network | a text: an IP address, or a network such as `"10.0.0.0/8"` |
| seconds | a number above 0, with or without a fraction |
| count | a whole number from 1 on |
| list of | any number of these in brackets: `["one", "two"]` |
"""

NAMES = {
    Address: "HOST:PORT", EntryPoint: "plug-in", SecretSource: "secret", pathlib.Path: "file",
    str: "text", bool: "true or false", float: "seconds", int: "count",
}  # fmt: skip

_NETWORK = typing.get_args(ListenerSettings.__annotations__["proxy_protocol"])[0]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


def page() -> str:
    """The text of the page."""
    return HEAD + "".join(_tables(Settings, "", ""))


def _tables(model: type[BaseModel], place: str, how: str) -> Iterator[str]:
    """The table of a model, and then those of the models in it, in the order of the settings."""
    plain = {name: field for name, field in model.model_fields.items() if _model_in(field.annotation) is None}
    if place:
        brackets = ("[[", "]]") if how == "list" else ("[", "]")
        yield f"\n## `{brackets[0]}{place}{brackets[1]}`\n\n{_text(model.__doc__)}\n\n"
        yield "| setting | kind | default | what it does |\n| --- | --- | --- | --- |\n"
        for name, field in plain.items():
            yield f"| `{name}` | {_kind(field.annotation, field)} | {_default(field)} | {_text(field.description)} |\n"
    for name, field in model.model_fields.items():
        if inner := _model_in(field.annotation):
            origin = _origin(field.annotation)
            named = f"{name}.NAME" if origin is dict else name
            yield from _tables(inner, f"{place}.{named}".lstrip("."), "list" if origin is list else "")
        elif not place:
            kind = _kind(field.annotation, field)
            yield f"\n## `[{name}]`\n\n{_text(field.description)} The kind of the table is: {kind}.\n"


def _bare(annotation: object) -> object:
    """An annotation without `Annotated` and without None."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif typing.get_origin(annotation) in {typing.Union, types.UnionType}:
            left = [each for each in typing.get_args(annotation) if each is not type(None)]
            if len(left) != 1:
                return annotation
            (annotation,) = left
        else:
            return annotation


def _origin(annotation: object) -> object:
    return typing.get_origin(_bare(annotation))


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model that a setting, a list or a table of names holds; None for a plain value."""
    bare = _bare(annotation)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return bare
    inner = typing.get_args(bare)[-1:] if typing.get_origin(bare) in {list, dict} else ()
    return _model_in(inner[0]) if inner else None


def _kind(annotation: object, field: FieldInfo | None = None) -> str:
    """What a value is, in a word or two of the page's own table."""
    if annotation == _NETWORK:
        return "network"
    bare, origin, arguments = _bare(annotation), _origin(annotation), typing.get_args(_bare(annotation))
    if origin is typing.Literal:
        return " or ".join("true" if each is True else f'`"{each}"`' for each in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_kind(each) for each in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"a name of your own, and its {_kind(arguments[1])}"
    assert isinstance(bare, type)
    least = next((each.ge for each in field.metadata if getattr(each, "ge", None) is not None), None) if field else None
    return NAMES[bare] + (" or 0" if bare is float and least == 0 else "")


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "needed"
    if default is None or default in ([], {}, ""):
        return ""
    if isinstance(default, enum.Enum):
        default = default.value
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float | int) else f"`{default}`"


def _text(text: str | None) -> str:
    assert text
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    main()
