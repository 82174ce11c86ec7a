"""Which of the known defects an endpoint has, by the attacks of `acredssp.testing`."""


def defects_of(attack, endpoint, defects):
    """The names of the defects that an endpoint has, with what each attack said."""
    seen = {}
    for name in defects:
        try:
            attack(endpoint, name)
        except AssertionError as error:
            seen[name] = str(error)
    return seen
