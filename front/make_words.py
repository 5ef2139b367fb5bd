"""Writes front/words.h, the words of the pre-filter in C, from those in Python: `python front/make_words.py`.

The header is checked in, so that the front is built without Python; a test holds that it is current.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def header(words: tuple[bytes, ...]) -> str:
    """Return the text of words.h. Words are of letters, digits and `_-.`, which C writes as they are."""
    lines = "".join(f'    "{word.decode("ascii")}",\n' for word in words)
    return (
        "/* Made by front/make_words.py from oci_gpu_hook/request/prefilter.py: change the words there. */\n"
        f"static const char *const WORDS[] = {{\n{lines}}};\n"
    )


def main() -> None:
    """Write the header."""
    sys.path.insert(0, os.path.dirname(HERE))
    from oci_gpu_hook.request.prefilter import WORDS

    with open(os.path.join(HERE, "words.h"), "w") as file:
        file.write(header(WORDS))


if __name__ == "__main__":
    main()
