"""Kerberos for both sides, by pyspnego, which uses GSS-API on Linux and macOS, and SSPI on Windows."""
