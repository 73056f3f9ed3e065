"""What any script about a torchvision model pays first: ``import torch, torchvision``, whichever build that is."""

from __future__ import annotations

from convstat.trace.environment import torchvision_compat

torchvision_compat()

import torch  # noqa: E402, F401
import torchvision  # noqa: E402, F401
