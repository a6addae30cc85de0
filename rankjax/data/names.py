"""What to say about a name that is not known."""

import difflib
from collections.abc import Sequence

from rankjax.errors import UsageError


def unknown_name(kind: str, name: str, known: Sequence[str]) -> UsageError:
    """One line with the nearest of the known names."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"no {kind} {name!r}{hint}")
