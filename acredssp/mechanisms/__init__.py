"""Authentication mechanisms behind one interface: NTLM and SPNEGO in Python, and Kerberos by a library."""
