"""All code that relies on CPython's internals to start faster. Without them everything works, only slower.

What each use saves is measured: docs/performance.md, "What relies on CPython's internals".
"""
