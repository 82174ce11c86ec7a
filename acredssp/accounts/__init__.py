"""Who may log on: the users file, winbind's users and the holders of tickets, as a server's hooks.

`Users.from_file(path).lookup` is a `lookup` for `ServerConfig`, with the accounts of the file that `acredssp serve` and
`acredssp proxy` read. `TicketHolders(users, realms).authorize` is the `authorize` that belongs to it where the server
has a keytab. Both give the account's name as the file has it, however the client wrote it (`Principal.account`).
`account in AccountNames(names, domains)` is for lists of who may do something, in the same spellings.
"""

from acredssp.accounts.domains import AccountNames, Domains
from acredssp.accounts.holders import Accounts, Anybody, TicketHolders, WinbindUsers
from acredssp.accounts.users import Users

__all__ = ["AccountNames", "Accounts", "Anybody", "Domains", "TicketHolders", "Users", "WinbindUsers"]
