"""Native NTLMv2, both sides ([MS-NLMP]): `initiator` and `acceptor` over `messages` and `crypto`."""
