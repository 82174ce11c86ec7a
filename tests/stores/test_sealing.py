import pytest

from acredssp.stores import Sealer, SealError, StoreError, new_keys

NAMES, MADE = new_keys().split()
KEY = "1:" + MADE.partition(":")[2]
OTHER = "2:" + new_keys().split()[1].partition(":")[2]


def test_a_key_that_is_made_later_can_be_added_as_it_is():
    names, key = new_keys().split()
    rotated = Sealer("\n".join([names, key, *(new_keys().split()[1] for _ in range(20))]))
    assert rotated.open("place", Sealer(f"{names}\n{key}").seal("place", b"value")) == b"value"


def test_what_is_sealed_is_opened_in_its_place_alone():
    sealer = Sealer(f"{NAMES}\n{KEY}")
    sealed = sealer.seal("place", b"value")
    assert b"value" not in sealed
    assert sealer.open("place", sealed) == b"value"
    assert sealer.seal("place", b"value") != sealed
    with pytest.raises(
        SealError, match=r"changed or moved, .*: key 1 does not fit: give all nodes the same file of keys"
    ):
        sealer.open("another", sealed)


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 14, 20, 34])
def test_a_cut_or_changed_value_is_refused(cut):
    sealer = Sealer(f"{NAMES}\n{KEY}")
    sealed = sealer.seal("place", b"value")
    changed = bytearray(sealed)
    changed[cut] ^= 1
    for wrong in (sealed[:cut], bytes(changed)):
        with pytest.raises(SealError):
            sealer.open("place", wrong)


@pytest.mark.parametrize(
    "garbage", [b"", b":", b"\xff\xfe", b"\xff:abc", b"1", b"\x1b[2J:aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
)
def test_garbage_is_refused_and_not_quoted(garbage):
    with pytest.raises(StoreError) as error:
        Sealer(f"{NAMES}\n{KEY}").open("place", garbage)
    assert str(error.value).isprintable()


def test_the_first_key_seals_and_every_key_opens():
    old, rotated = Sealer(f"{NAMES}\n{KEY}\n{OTHER}"), Sealer(f"# keys\n\n{OTHER}\n{KEY}\n{NAMES}\n")
    assert old.seal("p", b"v").startswith(b"1:")
    assert rotated.seal("p", b"v").startswith(b"2:")
    assert rotated.open("p", old.seal("p", b"v")) == old.open("p", rotated.seal("p", b"v")) == b"v"


def test_names_stay_over_a_rotation_and_differ_by_their_parts():
    old, rotated = Sealer(f"{NAMES}\n{KEY}"), Sealer(f"{NAMES}\n{OTHER}")
    assert old.name("kind", "alice") == rotated.name("kind", "alice")
    assert len({old.name("a", "b"), old.name("ab"), old.name("a", "b", ""), old.name("", "ab")}) == 4
    assert Sealer(new_keys()).name("kind", "alice") != old.name("kind", "alice")


@pytest.mark.parametrize(
    "text",
    ["", NAMES, KEY, f"{NAMES}\n{KEY}\n{KEY}", f"{NAMES}\n{KEY[:-4]}", f"{NAMES}\n{KEY}x", f"{NAMES}\nan id:{KEY[2:]}"],
    ids=["nothing", "no key", "no names", "twice", "short", "long", "a space"],
)
def test_keys_that_are_none_are_refused_without_a_word_of_them(text):
    with pytest.raises(ValueError, match="expected") as error:
        Sealer(text)
    assert KEY[2:20] not in str(error.value)
