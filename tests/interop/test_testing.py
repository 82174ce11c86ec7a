"""acredssp.testing against FreeRDP 2 and 3: what their servers and clients withstand, and what they do not.

docs/testing.md has the same findings.
"""

import pytest
from support import freerdp
from support.defects import defects_of

from acredssp.credentials import Password
from acredssp.testing import SERVER_DEFECTS, ClientEndpoint, ServerEndpoint, attack_client, attack_server

pytestmark = pytest.mark.interop

ACCOUNT = Password("Passw0rd!", "alice", "CONTOSO")
PROOFS = (
    "unproven-key", "reflected-key", "proof-of-the-client", "unsealed-key", "short-signature", "absent-key",
    "version-change", "old-version", "error-code",
)  # fmt: skip
"""Those that FreeRDP's clients answer at once: after other attacks they wait for the server."""
WAITS = {2: {"version-zero"}, 3: {"version-zero", "garbage"}}
"""After these FreeRDP's servers wait for more, and so would the test."""


@pytest.mark.parametrize("generation", [2, 3])
def test_the_servers_of_freerdp_take_av_pairs_without_an_end(shadow_server, generation):
    server = shadow_server(generation)
    endpoint = ServerEndpoint.tcp("127.0.0.1", server.port, account=ACCOUNT)
    seen = defects_of(attack_server, endpoint, [name for name in SERVER_DEFECTS if name not in WAITS[generation]])
    assert seen == {"av-pairs-without-end": "the server lets in a client with AV pairs without an end"}


@pytest.mark.parametrize("generation", [2, 3])
def test_the_clients_of_freerdp_send_the_password_at_version_2(graphical_lab, generation):
    def run(host, port):
        freerdp.log_on(graphical_lab, generation, f"{host}:{port}")

    seen = defects_of(attack_client, ClientEndpoint.tcp(run, account=ACCOUNT), PROOFS)
    assert list(seen) == ["old-version"]
    assert "CVE-2018-0886" in seen["old-version"]
