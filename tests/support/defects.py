"""Which of the known defects an endpoint has, by the attacks of `acredssp.testing`."""

import importlib.metadata

from acredssp.policy import MechanismChoice


def defects_of(attack, endpoint, defects, mechanism=MechanismChoice.NTLM):
    """The names of the defects that an endpoint has, with what each attack said."""
    seen = {}
    for name in defects:
        try:
            attack(endpoint, name, mechanism)
        except AssertionError as error:
            seen[name] = str(error)
    return seen


def check_findings(seen, known):
    """See that pyspnego has these findings. A later version than the documentation names may have mended some."""
    assert {name: known.get(name, "nothing") in text for name, text in seen.items()} == dict.fromkeys(seen, True)
    if importlib.metadata.version("pyspnego").startswith("0.12."):
        assert set(seen) == set(known)
