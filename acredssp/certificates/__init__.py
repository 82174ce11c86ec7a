"""Certificates of servers: what a certificate says, which path leads to an authority, and which names it is for.

`trust.Trust` calls these modules and turns their answer into a verdict. They know no clock, files or network.
"""
