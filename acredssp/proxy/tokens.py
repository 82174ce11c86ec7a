"""What a broker asks for when it orders a token, over the API or by `acredssp proxy token`."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from acredssp.proxy.leg import split_account
from acredssp.proxy.settings import Line, TargetSettings
from acredssp.stores import KICK_LIFE, Grant, Store, issue_token

__all__ = ["TokenOrder"]


class TokenOrder(BaseModel):
    """What a broker asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    user: Annotated[Line, Field(max_length=256)]
    r"""Who may come: `USER` of any domain, `DOMAIN\\USER` or `USER@SUFFIX`."""
    target: Annotated[str, Field(min_length=1, max_length=256)]
    """The target, by its name in `[targets]`."""
    ttl: Annotated[float, Field(gt=0, le=KICK_LIFE, allow_inf_nan=False)] = 60.0
    """Seconds within which the token must be used."""
    uses: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """How often it may be used."""
    window: Annotated[float, Field(ge=0, le=KICK_LIFE, allow_inf_nan=False)] = 30.0
    """Seconds after each use in which the same client may come again: mstsc connects twice, and reconnects. 0 makes a
    strict one-time token of it."""

    account: Annotated[str, Field(max_length=512)] = ""
    r"""Whom the gateway logs on to a target with `credentials = "token"` as: `DOMAIN\user`, `user@realm` or `user`."""
    password: Annotated[SecretStr, Field(max_length=512)] = SecretStr("")
    """The account's password."""

    def check(self, targets: Mapping[str, TargetSettings]) -> None:
        """Check that there is the target, and that the token brings what the target needs.

        Raises:
            ValueError: It does not.
        """
        if self.target not in targets:
            raise ValueError(f"target: expected one of {', '.join(targets)}")
        way, account = targets[self.target].credentials, self.account and split_account(self.account)
        given = bool(account), bool(self.password.get_secret_value())
        if given != (way == "token",) * 2:
            wants = "an account with its password, which the HTTP API takes" if way == "token" else "no account"
            raise ValueError(f"target: one with credentials = '{way}' expects {wants}")

    async def issue(self, store: Store) -> str:
        """Issue the token, as `issue_token` does."""
        password = self.password.get_secret_value()
        grant = Grant(**self.model_dump(exclude={"ttl", "password"}), password=password)
        return await issue_token(store, grant, self.ttl)
