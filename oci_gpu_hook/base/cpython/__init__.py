"""What leans on CPython's inside to start faster, and nothing else may. Without it everything works, slower.

What each use buys is measured: docs/performance.md, "What leans on CPython's inside".
"""
