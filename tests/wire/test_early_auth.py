import pytest
from vectors.load import capture

from acredssp.errors import RemoteProtocolError
from acredssp.wire import early_auth
from acredssp.wire.early_auth import AuthorizationResult


@pytest.mark.requirement("rdp.early-result")
@pytest.mark.parametrize(
    ("result", "data"), [(AuthorizationResult.SUCCESS, "00000000"), (AuthorizationResult.ACCESS_DENIED, "05000000")]
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_both_results_round_trip(result, data, kind):
    assert early_auth.encode(result) == bytes.fromhex(data)
    assert early_auth.decode(kind(bytes.fromhex(data))) is result
    assert len(bytes.fromhex(data)) == early_auth.SIZE


@pytest.mark.parametrize("name", ["freerdp3.10-ntlm-hybridex", "freerdp3.10-ntlm-hybridex-denied"])
def test_recorded_results_have_a_name(name):
    value = capture(name)["early_user_auth_result"]
    assert early_auth.decode(value.to_bytes(4, "little")) == value


@pytest.mark.parametrize("data", ["01000000", "00000005", "05000001", "ffffffff"])
def test_other_values_are_refused(data):
    with pytest.raises(RemoteProtocolError, match="expected 0 or 5, got 0x"):
        early_auth.decode(bytes.fromhex(data))


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\0\0"])
def test_other_sizes_are_refused(data):
    with pytest.raises(RemoteProtocolError, match=f"expected 4 bytes, got {len(data)}"):
        early_auth.decode(data)
