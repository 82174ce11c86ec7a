"""NTLMv2 in Python, for both sides ([MS-NLMP]): `initiator` and `acceptor`, on top of `messages` and `crypto`."""
