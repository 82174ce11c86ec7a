"""The compiled wheel for CPython 3.14, made in Debian's testing release: `make wheels WHEELS=cp314`, as root on Debian.

debootstrap puts the release into a folder outside of the checkout, which later calls use again: DEBIAN_TESTING names
it, and ~/.cache/acredssp/debian-testing is the default. There, `make wheels` builds and tries the wheel.
"""

import os
import pathlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator

from release.building import ROOT, Wrong, take_sources

TAG = "cp314"
RELEASE = "testing"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("python3", "python3-venv", "python3-dev", "gcc", "make", "git", "ca-certificates", "libkrb5-dev")
_PYTHON = "usr/bin/python3.14"
_CHECKOUT = pathlib.PurePosixPath("/root/acredssp")
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_BUILD = "git init -q && git add -A && make wheels"
"""What is built is what git knows, so there has to be a repository."""
_KEPT = ("LANG", "PIP_", "http_proxy", "https_proxy", "no_proxy")
"""How the names begin that the release sees of the caller's environment."""


def wheel_of_debian(out: pathlib.Path) -> pathlib.Path:
    """Build the wheel in the release, have it tried there as it is installed, and return it in the folder `out`.

    Raises:
        Wrong: The caller is not root, debootstrap is missing, or a step failed.
    """
    root = folder()
    expect_means(root)
    if not (root / _PYTHON).exists():
        print(f"putting Debian's {RELEASE} release into {root}, some minutes", flush=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        _call(bootstrap(root))
    if not (root / _PYTHON).exists():
        raise Wrong(
            f"Debian's {RELEASE} release has another Python than {_PYTHON}: {sorted(root.glob('usr/bin/python3*'))}"
        )
    _prepare(root)
    print(f"in {root}: make wheels", flush=True)
    _call(inside(root, _BUILD), environment(os.environ))
    (wheel,) = (root / _CHECKOUT.relative_to("/") / "dist").glob(f"*-{TAG}-{TAG}-manylinux*.whl")
    return pathlib.Path(shutil.copy(wheel, out))


def folder() -> pathlib.Path:
    """Return the folder of the release.

    Raises:
        Wrong: It would be in the checkout, where each tool would search it.
    """
    default = pathlib.Path.home() / ".cache" / "acredssp" / "debian-testing"
    root = pathlib.Path(os.environ.get("DEBIAN_TESTING", default)).resolve()
    if root.is_relative_to(ROOT.resolve()):
        raise Wrong(f"DEBIAN_TESTING: expected a folder outside of the checkout, got {root}")
    return root


def expect_means(root: pathlib.Path) -> None:
    """Check that there is what the release is made and entered by.

    Raises:
        Wrong: Something is missing; the text says what to do.
    """
    if os.geteuid() != 0:
        raise Wrong(f"expected root, who may change into another root folder: sudo make wheels WHEELS={TAG}")
    if shutil.which("debootstrap") is None and not (root / _PYTHON).exists():
        raise Wrong("debootstrap is missing: apt-get install debootstrap")


def bootstrap(root: pathlib.Path) -> list[str]:
    """Return the command that puts the release into a folder."""
    return ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(root), MIRROR]


def inside(root: pathlib.Path, script: str) -> list[str]:
    """Return the command that runs a script in the release. What it mounts is gone when it ends, however it ends."""
    mounts = 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev"'
    enter = f'{mounts} && exec chroot "$1" sh -c "cd {_CHECKOUT} && $2"'
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", enter, "sh", str(root), script]


def environment(names: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """Return the environment in the release: what pip needs of the caller's, and paths of the release's own."""
    kept = {name: value for name, value in names.items() if name.lower().startswith(tuple(map(str.lower, _KEPT)))}
    kept |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    return kept | {"PIP_CERT": f"/{_CERTIFICATES}", "PIP_ROOT_USER_ACTION": "ignore"}


def _prepare(root: pathlib.Path) -> None:
    """Give the release the sources, the names of hosts, the authorities of TLS and pip's configuration."""
    checkout = root / _CHECKOUT.relative_to("/")
    for old in checkout.glob("*"):  # not .venv, whose packages need not be installed again
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    take_sources(checkout)
    for source, place in host_files():
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def host_files() -> Iterator[tuple[pathlib.Path, str]]:
    """Yield the caller's files that the release needs, and where: each that there is."""
    authorities = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or f"/{_CERTIFICATES}"
    own_pip = pathlib.Path(os.environ.get("XDG_CONFIG_HOME", pathlib.Path.home() / ".config")) / "pip" / "pip.conf"
    files = {
        "etc/resolv.conf": pathlib.Path("/etc/resolv.conf"),
        _CERTIFICATES: pathlib.Path(authorities),
        "etc/pip.conf": pathlib.Path("/etc/pip.conf"),
        "root/.config/pip/pip.conf": own_pip,
    }
    yield from ((source, place) for place, source in files.items() if source.is_file())


def _call(command: list[str], names: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=names, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Wrong(f"{command[0]} ended with {done.returncode}; what it said is above")
