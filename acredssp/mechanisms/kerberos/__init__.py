"""Kerberos, both sides, on pyspnego: GSSAPI on Linux and macOS, SSPI on Windows."""
