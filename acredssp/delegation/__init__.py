"""Decides which credentials a server may be given, by the settings of Windows' policy "Credentials Delegation".

A client asks once the server has proven its key, and before any credentials leave. `DelegationPolicy.decide()` is a
pure function; `docs/policy.md` describes the settings for administrators. This package does not know the engine, sends
nothing, and holds no secret. The first rule that applies decides:

    1  MUTUAL_AUTH is asked for, and nothing authenticates the server  SEC_E_MUTUAL_AUTH_FAILED
    2  DELEGATE is not asked for, or there is nothing to delegate      empty credentials; no list counts
    3  RestrictedRemoteAdministration is Restricted Admin              empty credentials
       RestrictedRemoteAdministration demands Remote Guard, and the
       credentials are of another kind                                 SEC_E_DELEGATION_POLICY
    4  the target is in Deny<class>                                    SEC_E_DELEGATION_POLICY
    5  Kerberos, a certificate or loopback authenticates the server:
           the target is in Allow<class>                               delegate
    6  nothing authenticates the server (NTLM only):
           the target is in Allow<class>WhenNTLMOnly                   delegate
           the target is in Allow<class>                               SEC_E_POLICY_NLTM_ONLY
    7  in all other cases                                              SEC_E_DELEGATION_POLICY

Who calls: `config`.
"""

from acredssp.credentials import DelegatedKind
from acredssp.delegation.decision import DelegationDecision, DelegationRequest, ServerAuth
from acredssp.delegation.policy import DelegationPolicy
from acredssp.delegation.servers import SPNList
from acredssp.delegation.settings import CredentialClass, RestrictedAdministration
from acredssp.policy import EncryptionOracle

__all__ = [
    "CredentialClass",
    "DelegatedKind",
    "DelegationDecision",
    "DelegationPolicy",
    "DelegationRequest",
    "EncryptionOracle",
    "RestrictedAdministration",
    "SPNList",
    "ServerAuth",
]
