"""`--policy FILE`: which servers get the password of a login, and which versions a server takes."""

import json

import pytest


@pytest.fixture
def policy_file(tmp_path):
    def write(text):
        (tmp_path / "policy.toml").write_text(text, encoding="utf-8")
        return tmp_path / "policy.toml"

    return write


@pytest.fixture
def log_on(command, password):
    """Runs `login` as alice: its exit status, what it printed, and what it said of errors."""

    def call(server, policy, *words, trust=None):
        trust = trust or ("--pin", server.ready["peer_key_sha256"])
        who = ("-u", "CONTOSO\\alice", "-p", password)
        status, out, err = command("login", server.address, *who, *trust, "--policy", policy, *words)
        assert password not in out + err
        return status, out, err

    return call


@pytest.mark.requirement("delegation.order")
@pytest.mark.parametrize(
    ("text", "trust", "status", "hint"),
    [
        (
            'DenyFreshCredentials = ["termsrv/127.*"]',
            None,
            "SEC_E_DELEGATION_POLICY",
            "remove termsrv/127.* from DenyFreshCredentials of the file of --policy",
        ),
        (
            'AllowFreshCredentials = ["TERMSRV/*.example.com"]',
            None,
            "SEC_E_DELEGATION_POLICY",
            "list it in AllowFreshCredentials of the file of --policy",
        ),
        (
            "AllowFreshCredentialsWhenNTLMOnly = false",
            ("--insecure",),
            "SEC_E_POLICY_NLTM_ONLY",
            "or list it in AllowFreshCredentialsWhenNTLMOnly of the file of --policy",
        ),
        (
            "RestrictedRemoteAdministration = true\nRestrictedRemoteAdministrationType = 2",
            None,
            "SEC_E_DELEGATION_POLICY",
            "change RestrictedRemoteAdministration of the file of --policy",
        ),
    ],
)
def test_what_a_policy_forbids_is_status_3_and_says_what_to_change(
    served, log_on, policy_file, text, trust, status, hint
):
    server = served()
    exit_status, out, err = log_on(server, policy_file(text), "--json", trust=trust)
    assert exit_status == 3
    report = json.loads(out)
    assert (report["result"], report["stage"]) == ("protocol_error", "pub_key_auth")
    assert report["security_status"] == status
    assert "the delegation policy" in err
    assert hint in err
    line = server.line()
    assert (line["result"], line["stage"], line["delegated"]) == ("network_error", "auth_info", None)


@pytest.mark.parametrize(
    ("text", "delegated", "said"),
    [
        ("AllowFreshCredentialsWhenNTLMOnly = false", "password", "the password"),
        ('DenyFreshCredentials = ["TERMSRV/other"]', "password", "the password"),
        (
            "RestrictedRemoteAdministration = true\nRestrictedRemoteAdministrationType = 1",
            "nothing",
            "nothing, by the policy (restricted admin)",
        ),
    ],
)
def test_what_a_policy_allows_is_a_logon(served, log_on, policy_file, text, delegated, said):
    server = served()
    status, out, err = log_on(server, policy_file(text))
    assert (status, err) == (0, "")
    assert said in out
    assert server.line()["delegated"] == delegated


@pytest.mark.parametrize(
    ("spn", "status"), [("TERMSRV/elsewhere", 0), ("HTTP/127.0.0.1", 3), ("WSMAN/web.example.com", 0)]
)
def test_the_policy_goes_by_the_spn(served, log_on, policy_file, spn, status):
    server = served()
    policy = policy_file('AllowFreshCredentials = ["WSMAN/*.example.com"]\nConcatenateDefaults_AllowFresh = true')
    assert log_on(server, policy, "--spn", spn)[0] == status
    assert server.line()["delegated"] == (None if status else "password")


@pytest.mark.requirement("delegation.encryption-oracle")
@pytest.mark.parametrize(
    ("level", "client_may", "server_may"),
    [("ForceUpdatedClients", False, False), ("Mitigated", False, True), ("Vulnerable", True, True)],
)
def test_a_level_is_a_floor_on_either_side(serve_once, log_on, policy_file, level, client_may, server_may):
    policy = policy_file(f'AllowEncryptionOracle = "{level}"')
    nothing = policy.with_name("nothing.toml")
    nothing.write_text("")
    old = serve_once("--min-version", "2", "--max-version", "4")
    status, _, err = log_on(old, policy, "--min-version", "2")
    assert status == (0 if client_may else 3)
    assert ("warning: versions 2 to 4" in err) is client_may
    new = serve_once("--min-version", "2", "--policy", str(policy))
    status, _, _ = log_on(new, nothing, "--min-version", "2", "--max-version", "4")
    assert status == (0 if server_may else 1)
    old.stop()
    new.stop()


def test_a_policy_alone_allows_no_old_version(serve_once, log_on, policy_file):
    policy = policy_file('AllowEncryptionOracle = "Vulnerable"')
    old = serve_once("--min-version", "2", "--max-version", "4")
    assert log_on(old, policy)[0] == 3
    old.stop()


@pytest.mark.parametrize("words", [("login", "127.0.0.1:1", "-u", "alice", "-p", "x"), ("serve", "--users", "USERS")])
@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("AllowFreshCredential = []", (), "AllowFreshCredential: no such setting; AllowFreshCredentials is one"),
        ("\x00", (), "--policy: "),
        (
            'AllowEncryptionOracle = "ForceUpdatedClients"',
            ("--min-version", "2", "--max-version", "4"),
            (
                "the --policy file forbids every version that the options allow: AllowEncryptionOracle: "
                "ForceUpdatedClients requires version 5"
            ),
        ),
        (None, (), ": no such file or directory"),
    ],
)
def test_a_file_that_is_no_policy_is_a_usage_error(command, policy_file, users_file, words, text, more, said):
    path = policy_file(text or "")
    if text is None:
        path.unlink()
    status, out, err = command(
        *(str(users_file) if word == "USERS" else word for word in words), "--policy", path, *more
    )
    assert (status, out) == (2, "")
    assert said in err
