"""The slow proof that what an update remembers changes nothing.

Families of models that came about in every way, at random, are solved as small and as large components: afresh, with
what is remembered of the same models, after some went, and after some came. All must come out the same, to the bit. The
last line of the output is the result as JSON; the exit status is 1 where something differed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import warnings
from collections.abc import Sequence

from tests.test_memory_law import differences


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/law_test", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first family; the others follow")
    options = parser.parse_args(arguments)
    # Damaged weights overflow where that is expected, or something is wrong.
    warnings.simplefilter("error", RuntimeWarning)
    started = time.monotonic()
    seed, failed = options.seed, list[int]()
    while time.monotonic() - started < options.seconds:
        try:
            found = list(differences(seed))
        except Exception:  # noqa: BLE001 - any is a failure, and the next family is another
            found = [traceback.format_exc()]
        if found:
            failed.append(seed)
            print(f"seed {seed}: " + "; ".join(found), flush=True)
        seed += 1
    families = seed - options.seed
    print(f"{families:,} families in {time.monotonic() - started:.0f} s, {len(failed)} failed", file=sys.stderr)
    print(json.dumps({"families": families, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
