"""Write the names of the zoos into the list that ships: ``make zoo-names``.

The list makes names known without torch: for completion and for ``convstat list zoo``.
A zoo that is not installed keeps the names that it has in the list.
"""

from __future__ import annotations

from convstat.targets.zoo import PATH, ZOOS, installed_names, names


def write() -> None:
    """Rewrite the list from the zoos that are installed."""
    lines = []
    for zoo in ZOOS:
        found = installed_names(zoo) or names(zoo)
        lines += [f"{zoo}/{name}\n" for name in found]
    PATH.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write()
