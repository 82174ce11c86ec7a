"""Delegation policies by Windows' names, and what they decide."""

import json

from acredssp.delegation import CredentialClass, DelegationPolicy, DelegationRequest, ServerAuth

HOST = "TERMSRV/host.example.com"
NOBODY = ServerAuth(0)
PROVEN = [ServerAuth.KERBEROS, ServerAuth.CERTIFICATE, ServerAuth.LOOPBACK, ~ServerAuth(0)]
FRESH, SAVED, DEFAULT = CredentialClass.FRESH, CredentialClass.SAVED, CredentialClass.DEFAULT

ALLOW = {DEFAULT: "AllowDefaultCredentials", FRESH: "AllowFreshCredentials", SAVED: "AllowSavedCredentials"}
ALLOW_NTLM_ONLY = {
    DEFAULT: "AllowDefCredentialsWhenNTLMOnly",
    FRESH: "AllowFreshCredentialsWhenNTLMOnly",
    SAVED: "AllowSavedCredentialsWhenNTLMOnly",
}
DENY = {DEFAULT: "DenyDefaultCredentials", FRESH: "DenyFreshCredentials", SAVED: "DenySavedCredentials"}
SHORT = {
    "AllowDefaultCredentials": "AllowDefault",
    "AllowDefCredentialsWhenNTLMOnly": "AllowDefNTLMOnly",
    "AllowFreshCredentials": "AllowFresh",
    "AllowFreshCredentialsWhenNTLMOnly": "AllowFreshNTLMOnly",
    "AllowSavedCredentials": "AllowSaved",
    "AllowSavedCredentialsWhenNTLMOnly": "AllowSavedNTLMOnly",
    "DenyDefaultCredentials": "DenyDefault",
    "DenyFreshCredentials": "DenyFresh",
    "DenySavedCredentials": "DenySaved",
}
"""Windows' names, written down once more: the module's own table is what they test."""
SETTINGS = [*SHORT]


def settings(**values):
    """A policy by Windows' names, through TOML."""
    return DelegationPolicy.from_toml("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))


def decide(policy, target=HOST, auth=ServerAuth.KERBEROS, **fields):
    return policy.decide(DelegationRequest(target=target, server_auth=auth, **fields))
