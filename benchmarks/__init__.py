"""Measurements that are run by hand: speeds, and what training brings."""
