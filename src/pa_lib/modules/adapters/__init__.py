"""Adapters of a backbone to a domain, one file each: SCA and its alternatives."""
