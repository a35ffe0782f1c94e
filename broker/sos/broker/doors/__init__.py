"""Doors translate: bytes into a request, an outcome into bytes. They decide nothing."""
