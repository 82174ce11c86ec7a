"""Certificates of servers: their contents, their path to a trusted authority, and the names that they are for.

`trust.Trust` calls these modules and turns their result into a verdict. They use no clock, files or network.
"""
