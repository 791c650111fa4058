"""`python -m tests.browser.fill`: hostile text in every field of the database of a data directory.

Prints the pages that show it, as JSON.
"""

import json

import django


def main() -> None:
    django.setup()
    from tests.hostile import HOSTILE, said_everywhere

    pages = [said_everywhere(text, f"evil-{number}") for number, text in enumerate(HOSTILE)]
    print(json.dumps(sorted({path for paths in pages for path in paths})))


if __name__ == "__main__":
    main()
