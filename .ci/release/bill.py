"""The bill of materials of the wheel: what is there when it is installed into an empty environment.

`python -m release.bill` writes acredssp.cdx.json, which the build puts into the wheel's metadata (PEP 770). The file is
kept with the sources, so that a build needs no network and gives the same bytes anywhere.
"""

import json
import pathlib
import sys
import tempfile
import venv
import zipfile
from typing import Any, Final

from release.building import ROOT, build, run, take_sources

__all__ = ["BILL", "bill_in", "components", "make_bill", "without_places"]

BILL: Final = pathlib.Path(__file__).with_name("acredssp.cdx.json")


def make_bill(wheel: pathlib.Path, folder: pathlib.Path) -> str:
    """Install a wheel into an empty environment in a folder, and return the bill of it in CycloneDX's JSON."""
    venv.create(folder / "empty", symlinks=True)
    python = folder / "empty" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", wheel, folder=folder)
    options = ["--output-reproducible", "--mc-type", "library", "--pyproject", ROOT / "pyproject.toml"]
    run("cyclonedx-py", "environment", *options, "-o", folder / "bill.json", python, folder=folder)
    bill = without_places(json.loads((folder / "bill.json").read_text("utf-8")))
    return json.dumps(bill, indent=1, sort_keys=True) + "\n"


def without_places(bill: dict[str, Any]) -> dict[str, Any]:
    """Return a bill without addresses of this machine, and without the tools that made it."""
    bill["metadata"].pop("tools", None)
    for component in [bill["metadata"].get("component", {}), *bill.get("components", [])]:
        references = component.get("externalReferences", [])
        component["externalReferences"] = [each for each in references if not each["url"].startswith("file:")]
        if not component["externalReferences"]:
            del component["externalReferences"]
    return bill


def components(text: str) -> dict[str, str]:
    """Return the versions in a bill by name, without the package itself."""
    return {
        each["name"].lower(): each["version"] for each in json.loads(text)["components"] if each["name"] != "acredssp"
    }


def bill_in(wheel: pathlib.Path) -> str:
    """Return the bill that a wheel has; empty where it has none."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/sboms/" in name]
        return archive.read(names[0]).decode() if len(names) == 1 else ""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        source = take_sources(place / "source")
        (source / BILL.relative_to(ROOT)).touch()  # the build wants one, were it the first
        [wheel] = build(source, place / "dist", "wheel")
        BILL.write_text(make_bill(wheel, place), "utf-8")
