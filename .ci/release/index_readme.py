"""The README as the package index shows it: hatchling calls this at each build (pyproject.toml).

The index has none of the files that the README links to. Where the project has an address, the links lead to the files
of this version there; until then, a link becomes its words.
"""

import pathlib
import re
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

SOURCE = "Source"
"""The name in `[project.urls]` of the repository's address, on GitHub or on a host whose paths are the same."""
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)]+)\)")


def for_the_index(text: str, address: str | None, version: str) -> str:
    """Return a README without links to files beside it.

    Args:
        text: The README.
        address: The repository's address, such as https://github.com/OWNER/acredssp; None for none.
        version: The version, whose tag has the files.
    """
    if address is None:
        return _LINK.sub(r"\1", text)
    return _LINK.sub(rf"[\1]({address.rstrip('/')}/blob/v{version}/\2)", text)


class IndexReadme(MetadataHookInterface):
    """Gives the metadata their description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set what is dynamic in pyproject.toml."""
        root = pathlib.Path(self.root)
        version = re.findall(
            r'^__version__ = "(.+)"', (root / "acredssp" / "__init__.py").read_text("utf-8"), re.MULTILINE
        )
        text = for_the_index((root / "README.md").read_text("utf-8"), metadata.get("urls", {}).get(SOURCE), version[0])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
