"""What any script about a torchvision model pays first: ``import torch, torchvision``, whichever build that is."""

from __future__ import annotations


def main() -> None:
    """Import both. Here and not above: who collects the benchmarks must stay small, as processes inherit its peak."""
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()

    import torch  # noqa: F401
    import torchvision  # noqa: F401


if __name__ == "__main__":
    main()
