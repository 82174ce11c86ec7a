"""What a server may be given: Windows' policy "Credentials Delegation", setting by setting, and what it comes to.

A client's question, once the server has proven its key and before any credentials leave. `DelegationPolicy.decide()`
is a pure function; `docs/policy.md` has the settings for administrators. Nothing here knows the engine or sends
anything, and nothing here is a secret.

    1  MUTUAL_AUTH asked for, and nothing authenticates the server     SEC_E_MUTUAL_AUTH_FAILED
    2  DELEGATE not asked for, or nothing to delegate                  empty credentials; no list counts
    3  RestrictedRemoteAdministration leaves nothing of them           empty credentials (Restricted Admin)
       ... or asks for Remote Guard, and they are others               SEC_E_DELEGATION_POLICY
    4  the target is in Deny<class>                                    SEC_E_DELEGATION_POLICY
    5  Kerberos, certificate or loopback authenticates the server:
           the target is in Allow<class>                               delegate
    6  nothing does (NTLM only):
           the target is in Allow<class>WhenNTLMOnly                   delegate
           the target is in Allow<class>                               SEC_E_POLICY_NLTM_ONLY
    7  anything else                                                   SEC_E_DELEGATION_POLICY

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
